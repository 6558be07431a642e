package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"mosix/internal/id"
	"mosix/internal/image"
	"mosix/node/api"
)

// fake is a Backend whose answers a test sets, and which remembers who asked what.
type fake struct {
	mu      sync.Mutex
	askers  []Asker
	request api.MigrateRequest
	all     bool

	status    api.Status
	processes []Process
	explained Explanation
	moves     []Move
	result    api.MigrateResult
	owned     []api.OwnerRequest
	err       error
	block     chan struct{} // Migrate waits for it, or for its context
}

var _ Backend = (*fake)(nil)

func (f *fake) note(a Asker) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.askers = append(f.askers, a)
}

func (f *fake) lastAsker() Asker {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.askers[len(f.askers)-1]
}

func (f *fake) Status(context.Context) (api.Status, error) { return f.status, f.err }

func (f *fake) Processes(_ context.Context, a Asker, all bool) ([]Process, error) {
	f.note(a)
	f.all = all
	return f.processes, f.err
}

func (f *fake) Migrate(ctx context.Context, a Asker, req api.MigrateRequest) (api.MigrateResult, error) {
	f.note(a)
	f.request = req
	if f.block != nil {
		select {
		case <-f.block:
		case <-ctx.Done():
			return api.MigrateResult{}, ctx.Err()
		}
	}
	return f.result, f.err
}

func (f *fake) Explain(_ context.Context, a Asker, pid id.HomePID, home id.Node) (Explanation, error) {
	f.note(a)
	e := f.explained
	e.Process.PID, e.Process.Home = pid, home
	return e, f.err
}

func (f *fake) Owner(_ context.Context, a Asker, req api.OwnerRequest) (api.OwnerState, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.askers, f.owned = append(f.askers, a), append(f.owned, req)
	return api.OwnerState{Node: "n1", Moved: 3}, f.err
}

func (f *fake) Events(_ context.Context, _ Asker, since uint64) (api.Events, error) {
	return api.Events{Events: []api.Event{{Seq: since + 1, Kind: api.EventOwner, Text: "t"}}}, f.err
}

func (f *fake) WhyNot(context.Context, Asker, id.HomePID) (WhyNot, error) {
	return WhyNot{Explanation: f.explained, Policy: "mosix", Why: "w"}, f.err
}

func (f *fake) Place(_ context.Context, a Asker, req api.PlaceRequest) (api.Placement, error) {
	if req.Select == "bad" {
		return api.Placement{}, fmt.Errorf("column 1: %w", ErrInvalid)
	}
	return api.Placement{Home: "n1", To: id.Node(req.Order), Why: fmt.Sprint(a.UID, " ", req.Program)}, nil
}

func (f *fake) Moves(_ context.Context, a Asker) ([]Move, error) {
	f.note(a)
	return f.moves, f.err
}

// serve runs f behind a real socket and returns the socket's path.
func serve(t *testing.T, f *fake) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{filepath.Dir(dir), dir} { // other users connect too
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	socket := filepath.Join(dir, "run", "control.sock")
	l, err := Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(f, slog.New(slog.DiscardHandler))
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return socket
}

func client(t *testing.T, socket string) *Client {
	c := NewClient(socket)
	t.Cleanup(c.Close)
	return c
}

func TestStatusRoundTrip(t *testing.T) {
	want := api.Node{Name: "n1", State: api.NodeAlive, Self: true, Load: 0.5, CPUs: 2, Speed: 1, MemTotalBytes: 1 << 40}
	c := client(t, serve(t, &fake{status: api.Status{Nodes: []api.Node{want}}}))
	got, err := c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Nodes) != 1 || !reflect.DeepEqual(got.Nodes[0], want) {
		t.Errorf("got %+v, want %+v", got.Nodes, want)
	}
}

func TestAskerIsWhomTheKernelNames(t *testing.T) {
	f := &fake{}
	c := client(t, serve(t, f))
	if _, err := c.Processes(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	a := f.lastAsker()
	if a.UID != uint32(os.Geteuid()) || a.GID != uint32(os.Getegid()) || a.PID != int32(os.Getpid()) {
		t.Errorf("asker = %+v, want uid %d gid %d pid %d", a, os.Geteuid(), os.Getegid(), os.Getpid())
	}
	groups, err := os.Getgroups()
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range groups {
		if !a.InGroup(uint32(g)) {
			t.Errorf("asker = %+v is not in group %d", a, g)
		}
	}
	if !f.all {
		t.Error("all was lost on the way")
	}
}

// as connects to socket with other ids: the kernel notes those of the thread that connects. The thread then ends with its
// goroutine.
func as(t *testing.T, socket string, uid, gid int, groups []uint32) *Client {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root to connect as another user")
	}
	type dialed struct {
		c   net.Conn
		err error
	}
	ch := make(chan dialed)
	go func() {
		runtime.LockOSThread()
		if err := becomeThread(uid, gid, groups); err != nil {
			ch <- dialed{err: err}
			return
		}
		c, err := net.Dial("unix", socket)
		ch <- dialed{c, err}
	}()
	d := <-ch
	if d.err != nil {
		t.Fatal(d.err)
	}
	c := client(t, socket)
	once := make(chan net.Conn, 1)
	once <- d.c
	c.http.Transport.(*http.Transport).DialContext = func(context.Context, string, string) (net.Conn, error) {
		select {
		case nc := <-once:
			return nc, nil
		default:
			return nil, errors.New("the connection of the other user was used up")
		}
	}
	return c
}

func TestOthersSeeNoCommandAndNoEvidence(t *testing.T) {
	secret := image.Refusals{{What: "device-mapping", Why: "it maps a device", Evidence: "fd 5 is /home/secret"}}
	row := func(uid uint32) Process {
		return Process{UID: uid, Process: api.Process{PID: 7, User: "u", Command: "gpg --passphrase secret", Refusals: secret}}
	}
	f := &fake{
		processes: []Process{row(4001), row(4002), row(NoOwner)},
		explained: Explanation{UID: 4002, Explanation: api.Explanation{Process: row(4002).Process, Refusals: secret, Unfit: secret}},
		moves:     []Move{{UID: 4002, Move: api.Move{PID: 7, Refusals: secret, Error: "open /home/secret"}}},
	}
	socket := serve(t, f)

	c := as(t, socket, 4001, 4100, []uint32{4100, 4200})
	ps, err := c.Processes(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	if a := f.lastAsker(); a.UID != 4001 || a.GID != 4100 || !slices.Equal(a.Groups, []uint32{4100, 4200}) {
		t.Errorf("asker = %+v", a)
	}
	if p := ps.Processes[0]; p.Hidden || p.Command == "" || p.Refusals[0].Evidence == "" {
		t.Errorf("own process: %+v, want all of it", p)
	}
	e, err := c.Explain(t.Context(), 7, "")
	if err != nil {
		t.Fatal(err)
	}
	ms, err := c.Moves(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []any{ps.Processes[1], ps.Processes[2], e, ms} {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(b, []byte("secret")) {
			t.Errorf("another user's secret in %s", b)
		}
		if !bytes.Contains(b, []byte("it maps a device")) {
			t.Errorf("the sentence is gone too, in %s", b)
		}
	}
	if !ps.Processes[1].Hidden || ps.Processes[1].User != "u" {
		t.Errorf("other's process: %+v, want hidden, with the user's name", ps.Processes[1])
	}

	root, err := client(t, socket).Processes(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range root.Processes {
		if p.Hidden || p.Command == "" || p.Refusals[0].Evidence == "" {
			t.Errorf("root sees %+v, want all of it", p)
		}
	}
	if f.processes[1].Command == "" || secret[0].Evidence == "" {
		t.Error("hiding changed the backend's own rows")
	}
}

func TestOnlyRootAllowsPrivileged(t *testing.T) {
	f := &fake{result: api.MigrateResult{Result: api.ResultMoved}}
	socket := serve(t, f)
	_, err := as(t, socket, 4001, 4001, nil).Migrate(t.Context(), api.MigrateRequest{PID: 7, To: "n2", AllowPrivileged: true})
	var ae *AnswerError
	if !errors.As(err, &ae) || ae.Code != http.StatusForbidden {
		t.Errorf("got %v, want 403", err)
	}
	if len(f.askers) != 0 {
		t.Error("the backend was asked nevertheless")
	}
	if _, err := client(t, socket).Migrate(t.Context(), api.MigrateRequest{PID: 7, To: "n2", AllowPrivileged: true}); err != nil {
		t.Errorf("root: %v", err)
	}
	if !f.request.AllowPrivileged {
		t.Error("root's word was lost on the way")
	}
}

func TestMigrateResultsAndTheirStatus(t *testing.T) {
	for _, tc := range []struct {
		result string
		code   int
	}{{api.ResultMoved, 200}, {api.ResultRefused, 409}, {api.ResultFailed, 502}} {
		f := &fake{result: api.MigrateResult{PID: 7, Result: tc.result, FreezeMS: 1.5}}
		socket := serve(t, f)
		got, err := client(t, socket).Migrate(t.Context(), api.MigrateRequest{PID: 7, Home: "n3", To: "n2"})
		if err != nil {
			t.Fatalf("%s: %v", tc.result, err)
		}
		if got.Result != tc.result || got.FreezeMS != 1.5 || got.Refusals == nil {
			t.Errorf("%s: got %+v, want the backend's result with a list of refusals", tc.result, got)
		}
		if f.request != (api.MigrateRequest{PID: 7, Home: "n3", To: "n2", Strategy: api.Precopy}) {
			t.Errorf("backend was asked %+v", f.request)
		}
		code, _ := raw(t, socket, "POST", "/v1/migrate", `{"pid":7,"to":"n2"}`)
		if code != tc.code {
			t.Errorf("%s: status %d, want %d", tc.result, code, tc.code)
		}
	}
}

func TestBackendErrorsAndTheirStatus(t *testing.T) {
	for _, tc := range []struct {
		err  error
		code int
	}{
		{fmt.Errorf("explain 7: %w", ErrNoProcess), 404},
		{fmt.Errorf("move to n9: %w", ErrNoNode), 404},
		{fmt.Errorf("7 is root's: %w", ErrForbidden), 403},
		{fmt.Errorf("home n9: %w", ErrInvalid), 400},
		{fmt.Errorf("starting: %w", ErrUnavailable), 503},
		{errors.New("disk on fire"), 500},
	} {
		socket := serve(t, &fake{err: tc.err})
		c := client(t, socket)
		_, err1 := c.Status(t.Context())
		_, err2 := c.Processes(t.Context(), false)
		_, err3 := c.Explain(t.Context(), 7, "")
		_, err4 := c.Moves(t.Context())
		_, err5 := c.Migrate(t.Context(), api.MigrateRequest{PID: 7, To: "n2"})
		for i, err := range []error{err1, err2, err3, err4, err5} {
			var ae *AnswerError
			if !errors.As(err, &ae) || ae.Code != tc.code || ae.Message != tc.err.Error() {
				t.Errorf("%v, request %d: got %v, want status %d with the same words", tc.err, i, err, tc.code)
			}
		}
	}
}

// raw sends a request as it stands and returns status and body.
func raw(t *testing.T, socket, method, path, body string) (int, string) {
	t.Helper()
	c := client(t, socket)
	req, err := http.NewRequest(method, "http://agent"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestMalformedRequests(t *testing.T) {
	f := &fake{result: api.MigrateResult{Result: api.ResultMoved}}
	socket := serve(t, f)
	for _, tc := range []struct {
		name, method, path, body string
		code                     int
		says                     string
	}{
		{"no body", "POST", "/v1/migrate", "", 400, "read the request"},
		{"not JSON", "POST", "/v1/migrate", "pid=7", 400, "read the request"},
		{"two bodies", "POST", "/v1/migrate", `{"pid":7,"to":"n2"}{}`, 400, "after its end"},
		{"no pid", "POST", "/v1/migrate", `{"to":"n2"}`, 400, "pid = 0"},
		{"negative pid", "POST", "/v1/migrate", `{"pid":-1,"to":"n2"}`, 400, "pid = -1"},
		{"pid too large", "POST", "/v1/migrate", `{"pid":99999999999,"to":"n2"}`, 400, "read the request"},
		{"no target", "POST", "/v1/migrate", `{"pid":7}`, 400, "to is empty"},
		{"unknown strategy", "POST", "/v1/migrate", `{"pid":7,"to":"n2","strategy":"magic"}`, 400, `"magic"`},
		{"huge body", "POST", "/v1/migrate", `{"pid":7,"to":"` + strings.Repeat("n", 1<<20) + `"}`, 400, "too large"},
		{"explain nothing", "GET", "/v1/explain", "", 400, "not a process id"},
		{"explain garbage", "GET", "/v1/explain?pid=%00%ff", "", 400, "not a process id"},
		{"wrong method", "GET", "/v1/migrate", "", 404, "does not know"},
		{"unknown path", "GET", "/v2/status", "", 404, "does not know"},
	} {
		code, body := raw(t, socket, tc.method, tc.path, tc.body)
		var e api.Error
		if err := json.Unmarshal([]byte(body), &e); err != nil {
			t.Errorf("%s: body %q is not an error: %v", tc.name, body, err)
		}
		if code != tc.code || !strings.Contains(e.Error, tc.says) {
			t.Errorf("%s: got %d %q, want %d with %q", tc.name, code, e.Error, tc.code, tc.says)
		}
	}
	if len(f.askers) != 0 {
		t.Errorf("the backend was asked %d times", len(f.askers))
	}
}

// FuzzRequest throws bytes at the socket: the server must stay up and answer the next request.
func FuzzRequest(f *testing.F) {
	f.Add([]byte("GET /v1/status HTTP/1.1\r\nHost: a\r\n\r\n"))
	f.Add([]byte("POST /v1/migrate HTTP/1.1\r\nHost: a\r\nContent-Length: 18\r\n\r\n{\"pid\":1,\"to\":\"x\"}"))
	f.Add([]byte("POST /v1/migrate HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"pid\r\nzz\r\n"))
	f.Add([]byte("\x16\x03\x01\x00\x00"))
	f.Add([]byte("GET /v1/explain?pid=1@%zz HTTP/1.1\r\nHost: a\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		socket := serve(t, &fake{result: api.MigrateResult{Result: api.ResultMoved}})
		c, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write(b) // the server may hang up in the middle
		_ = c.(*net.UnixConn).CloseWrite()
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.Copy(io.Discard, c); err != nil && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the server did not finish with %q: %v", b, err)
		}
		c.Close()
		if _, err := client(t, socket).Status(t.Context()); err != nil {
			t.Errorf("after %q: %v", b, err)
		}
	})
}

func TestHangingUpEndsTheContext(t *testing.T) {
	f := &fake{block: make(chan struct{})}
	socket := serve(t, f)
	ctx, cancel := context.WithCancel(t.Context())
	errs := make(chan error, 1)
	go func() {
		_, err := client(t, socket).Migrate(ctx, api.MigrateRequest{PID: 7, To: "n2"})
		errs <- err
	}()
	for {
		f.mu.Lock()
		asked := len(f.askers) > 0
		f.mu.Unlock()
		if asked {
			break
		}
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-errs; !errors.Is(err, context.Canceled) {
		t.Errorf("client: %v, want cancelled", err)
	}
	// The cleanup's Shutdown waits for the handler, which waits for its context: it fails unless hanging up has ended it.
}

func TestAnswerThatIsNoJSON(t *testing.T) {
	_, err := client(t, serve(t, &fake{status: api.Status{Nodes: []api.Node{{Load: math.NaN()}}}})).Status(t.Context())
	var ae *AnswerError
	if !errors.As(err, &ae) || ae.Code != 500 {
		t.Errorf("got %v, want 500", err)
	}
}

func TestNoAgent(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "control.sock")
	_, err := client(t, socket).Status(t.Context())
	want := "cannot reach the agent at " + socket + ": connect: no such file or directory; is mosixd running?"
	if !errors.Is(err, ErrUnreachable) || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestSocketForAllInADirectoryForOne(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077))
	socket := serve(t, &fake{})
	fi, err := os.Stat(socket)
	if err != nil {
		t.Fatal(err)
	}
	if fi.Mode().Perm() != 0o666 {
		t.Errorf("socket has mode %o, want 666", fi.Mode().Perm())
	}
	if fi, err = os.Stat(filepath.Dir(socket)); err != nil {
		t.Fatal(err)
	}
	if fi.Mode().Perm() != 0o755 {
		t.Errorf("its directory has mode %o, want 755", fi.Mode().Perm())
	}
}

func TestListenReplacesOnlyWhatIsDead(t *testing.T) {
	dir := t.TempDir()
	stale := filepath.Join(dir, "stale.sock")
	l, err := net.Listen("unix", stale)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	if l, err := Listen(stale); err != nil {
		t.Errorf("a socket that nobody answers: %v", err)
	} else {
		l.Close()
	}

	live := serve(t, &fake{})
	if _, err := Listen(live); err == nil || !strings.Contains(err.Error(), "another agent answers") {
		t.Errorf("a socket that is answered: got %v", err)
	}
	if _, err := client(t, live).Status(t.Context()); err != nil {
		t.Errorf("the first agent lost its socket: %v", err)
	}

	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(file); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Errorf("a file: got %v", err)
	}
	if b, _ := os.ReadFile(file); string(b) != "precious" {
		t.Error("the file was destroyed")
	}
}

func TestOneUserCannotTakeAllConnections(t *testing.T) {
	l := &Listener{conns: map[uint32]int{}}
	for i := range maxConnsPerUser {
		if !l.enter(4001) {
			t.Fatalf("connection %d was turned away", i)
		}
	}
	if l.enter(4001) {
		t.Error("one more than the limit was let in")
	}
	if !l.enter(4002) || !l.enter(0) {
		t.Error("another user pays for the first")
	}
	l.leave(4001)
	if !l.enter(4001) {
		t.Error("a place that became free was not given")
	}
	for range maxConnsPerUser {
		l.leave(4001)
	}
	l.leave(4002)
	l.leave(0)
	if len(l.conns) != 0 {
		t.Errorf("counts remain: %v", l.conns)
	}
}

func TestOwnersCommandsAreRoots(t *testing.T) {
	f := &fake{}
	socket := serve(t, f)
	c := as(t, socket, 4001, 4100, nil)
	if _, err := c.Owner(t.Context(), api.OwnerRequest{Op: api.OpBlock}); err == nil || !strings.Contains(err.Error(), "only root") {
		t.Errorf("an ordinary user blocks a node: %v", err)
	}
	if n := len(f.owned); n != 0 {
		t.Errorf("%d requests have come through", n)
	}
	root := client(t, socket)
	for _, req := range []api.OwnerRequest{{Op: "explode"}, {Op: api.OpLock}, {Op: api.OpSetSpeed, Speed: -1}, {}} {
		if _, err := root.Owner(t.Context(), req); err == nil {
			t.Errorf("%+v is taken", req)
		}
	}
	st, err := root.Owner(t.Context(), api.OwnerRequest{Op: api.OpExpel})
	if err != nil || st.Moved != 3 || st.Left == nil {
		t.Errorf("%+v, %v", st, err)
	}
	es, err := root.Events(t.Context(), 41)
	if err != nil || len(es.Events) != 1 || es.Events[0].Seq != 42 {
		t.Errorf("%+v, %v", es, err)
	}
	if w, err := root.WhyNot(t.Context(), 7); err != nil || w.Why != "w" || w.Policy != "mosix" {
		t.Errorf("%+v, %v", w, err)
	}
}

func TestOwnProcessesAreLockedByTheirUser(t *testing.T) {
	f := &fake{}
	c := as(t, serve(t, f), 4001, 4100, nil)
	if _, err := c.Owner(t.Context(), api.OwnerRequest{Op: api.OpLock, PID: 7}); err != nil {
		t.Error(err)
	}
	if len(f.owned) != 1 || f.owned[0].PID != 7 || f.lastAsker().UID != 4001 {
		t.Errorf("%+v", f.owned)
	}
}
