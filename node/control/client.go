package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"syscall"

	"mosix/internal/id"
	"mosix/node/api"
)

// maxAnswerBytes bounds what a client reads: a table of 100,000 processes fits.
const maxAnswerBytes = 64 << 20

// ErrUnreachable says that nobody answered on the socket.
var ErrUnreachable = errors.New("agent does not answer")

// AnswerError is an answer of the agent that is an error.
type AnswerError struct {
	Code    int // HTTP status
	Message string
}

func (e *AnswerError) Error() string { return e.Message }

// Client talks to the agent of this machine.
type Client struct {
	socket string
	http   *http.Client
}

// NewClient makes a client of the agent that listens at socket. It connects with the first request.
func NewClient(socket string) *Client {
	var d net.Dialer
	return &Client{socket: socket, http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return d.DialContext(ctx, "unix", socket) },
	}}}
}

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Status asks for the table of nodes.
func (c *Client) Status(ctx context.Context) (api.Status, error) {
	var out api.Status
	return out, c.get(ctx, "/v1/status", nil, &out)
}

// Processes asks for the processes of this node and its guests; with all, also those that are no candidates.
func (c *Client) Processes(ctx context.Context, all bool) (api.Processes, error) {
	q := url.Values{}
	if all {
		q.Set("all", "1")
	}
	var out api.Processes
	return out, c.get(ctx, "/v1/processes", q, &out)
}

// Explain asks whether and why a process may not move. An empty home is this node.
func (c *Client) Explain(ctx context.Context, pid id.HomePID, home id.Node) (api.Explanation, error) {
	q := url.Values{"pid": {strconv.Itoa(int(pid))}}
	if home != "" {
		q.Set("home", string(home))
	}
	var out api.Explanation
	return out, c.get(ctx, "/v1/explain", q, &out)
}

// Moves asks for the latest moves of this node's processes.
func (c *Client) Moves(ctx context.Context) (api.Moves, error) {
	var out api.Moves
	return out, c.get(ctx, "/v1/moves", nil, &out)
}

// Events asks for what happened on this node after event since.
func (c *Client) Events(ctx context.Context, since uint64) (api.Events, error) {
	var out api.Events
	return out, c.get(ctx, "/v1/events", url.Values{"since": {strconv.FormatUint(since, 10)}}, &out)
}

// WhyNot asks why the balancer does not move a process.
func (c *Client) WhyNot(ctx context.Context, pid id.HomePID) (api.WhyNot, error) {
	var out api.WhyNot
	return out, c.get(ctx, "/v1/why-not", url.Values{"pid": {strconv.Itoa(int(pid))}}, &out)
}

// Owner asks for what the owner of this node wants; expel and bring return when they are done, or when ctx ends.
func (c *Client) Owner(ctx context.Context, req api.OwnerRequest) (api.OwnerState, error) {
	var out api.OwnerState
	code, b, err := c.post(ctx, "/v1/owner", req)
	if err != nil {
		return out, err
	}
	if code != http.StatusOK {
		return out, answerError(code, b)
	}
	if err := json.Unmarshal(b, &out); err != nil {
		return out, fmt.Errorf("the agent at %s gave an answer that mosixctl cannot read: %w; are both of the same version?", c.socket, err)
	}
	return out, nil
}

// Migrate asks for a move and waits until it has ended. A move that was refused or failed is a result, not an error.
func (c *Client) Migrate(ctx context.Context, req api.MigrateRequest) (api.MigrateResult, error) {
	var out api.MigrateResult
	code, b, err := c.post(ctx, "/v1/migrate", req)
	if err != nil {
		return out, err
	}
	if json.Unmarshal(b, &out) == nil && out.Result != "" {
		return out, nil
	}
	return out, answerError(code, b)
}

// Place asks where a process is to begin that is about to execute a program.
func (c *Client) Place(ctx context.Context, req api.PlaceRequest) (api.Placement, error) {
	var out api.Placement
	code, b, err := c.post(ctx, "/v1/place", req)
	if err != nil {
		return out, err
	}
	if code != http.StatusOK {
		return out, answerError(code, b)
	}
	return out, json.Unmarshal(b, &out)
}

// post sends req as JSON, and returns the status and the body of the answer.
func (c *Client) post(ctx context.Context, path string, req any) (int, []byte, error) {
	body, err := json.Marshal(req)
	if err != nil {
		return 0, nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://agent"+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	return c.do(r)
}

func (c *Client) get(ctx context.Context, path string, q url.Values, out any) error {
	u := url.URL{Scheme: "http", Host: "agent", Path: path, RawQuery: q.Encode()}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return err
	}
	code, b, err := c.do(r)
	if err != nil {
		return err
	}
	if code != http.StatusOK {
		return answerError(code, b)
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("the agent at %s gave an answer that mosixctl cannot read: %w; are both of the same version?", c.socket, err)
	}
	return nil
}

func (c *Client) do(r *http.Request) (int, []byte, error) {
	resp, err := c.http.Do(r)
	if err != nil {
		return 0, nil, c.explain(r.Context(), err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes))
	if err != nil {
		return 0, nil, c.explain(r.Context(), err)
	}
	return resp.StatusCode, b, nil
}

// explain turns what net/http says into what a user can act on.
func (c *Client) explain(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return fmt.Errorf("wait for the agent at %s: %w", c.socket, cause)
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	hint := "is mosixd running?"
	switch {
	case errors.Is(err, syscall.EACCES):
		hint = "may you enter the folder that the socket is in?"
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		hint = "it hung up: did mosixd end, or do you have too many requests open?"
	}
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err // the socket's path is in our own sentence
	}
	return fmt.Errorf("cannot reach the agent at %s: %w; %s", c.socket, joinErr{err, ErrUnreachable}, hint)
}

// joinErr reads as its first error and is both.
type joinErr struct{ err, kind error }

func (e joinErr) Error() string   { return e.err.Error() }
func (e joinErr) Unwrap() []error { return []error{e.err, e.kind} }

func answerError(code int, b []byte) error {
	var e api.Error
	if json.Unmarshal(b, &e) != nil || e.Error == "" {
		e.Error = fmt.Sprintf("the agent answered with status %d and no reason", code)
	}
	return &AnswerError{Code: code, Message: e.Error}
}
