package node

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"mosix/internal/config"
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
	if n.own.Blocked || n.own.Stay || n.own.Owner != api.OpAuto || n.closed() != "" {
		t.Fatalf("nothing was ordered: %+v, %q", n.own.wishes, n.closed())
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
	if n = open(); n.closed() == "" {
		t.Error("a node that cannot read what its owner has ordered takes guests")
	}
	if err := n.order(func(w *wishes) { w.Blocked = false }); err != nil || open().closed() != "" {
		t.Errorf("%v, %q", err, open().closed())
	}
}
