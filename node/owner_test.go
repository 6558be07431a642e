package node

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"mosix/internal/config"
	"mosix/internal/id"
	"mosix/node/api"
)

func TestWishesOutliveTheAgent(t *testing.T) {
	dir := t.TempDir()
	open := func() *Node {
		n := &Node{conf: config.Config{StateDir: dir, Owner: "none"}, log: slog.New(slog.DiscardHandler)}
		n.openOwner()
		return n
	}
	n := open()
	if what, _ := n.closed(); n.own.Blocked || n.own.Stay || n.own.Owner != api.OpAuto || what != "" {
		t.Fatalf("nothing was ordered: %+v, %q", n.own.wishes, what)
	}
	if err := n.order(func(w *wishes) { w.Stay, w.Owner = true, api.OpGone }); err != nil {
		t.Fatal(err)
	}
	if n = open(); n.own.Blocked || !n.own.Stay || n.own.Owner != api.OpGone {
		t.Errorf("%+v", n.own.wishes)
	}
	if err := os.WriteFile(filepath.Join(dir, wishesFile), []byte("{half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if what, _ := open().closed(); what != "blocked" {
		t.Error("a node that cannot read what its owner has ordered takes guests")
	}
	if err := n.order(func(w *wishes) { w.Blocked = false }); err != nil {
		t.Error(err)
	}
	if what, _ := open().closed(); what != "" {
		t.Errorf("it is still %s", what)
	}
}

func TestTripsEndWithTheirContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	var began atomic.Int32
	moved, left := trips(ctx, []int{1, 2, 3, 4, 5}, 2, func(i int) id.Process { return id.Process{Home: "n3", PID: id.HomePID(i)} }, func(context.Context, int) error {
		if began.Add(1) == 2 {
			cancel(errors.New("the user has had enough"))
		}
		<-ctx.Done() // so that two are under way
		return nil
	})
	if began.Load() != 2 || moved != 2 || len(left) != 3 || left[0].Home != "n3" || left[0].Why != "the user has had enough" {
		t.Errorf("%d began, %d moved, left: %v", began.Load(), moved, left)
	}
}
