package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"mosix/internal/id"
	"mosix/internal/image"
	"mosix/node/api"
)

// Limits of one connection. A request is a few hundred bytes; who sends more, or sends slowly, is cut off.
const (
	maxHeaderBytes = 16 << 10
	maxBodyBytes   = 64 << 10
	headerTimeout  = 5 * time.Second
	bodyTimeout    = 5 * time.Second
	answerTimeout  = 10 * time.Second // to take an answer that is ready; not the time that a move may need
	idleTimeout    = 2 * time.Minute
)

// Server answers on the control socket.
type Server struct {
	backend Backend
	log     *slog.Logger
	http    *http.Server
}

// NewServer makes a server for b. Nothing is served before Serve.
func NewServer(b Backend, log *slog.Logger) *Server {
	s := &Server{backend: b, log: log}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", s.status)
	mux.HandleFunc("GET /v1/processes", s.processes)
	mux.HandleFunc("GET /v1/explain", s.explain)
	mux.HandleFunc("GET /v1/moves", s.moves)
	mux.HandleFunc("GET /v1/events", s.events)
	mux.HandleFunc("GET /v1/why-not", s.whyNot)
	mux.HandleFunc("GET /v1/owner", s.ownerShow)
	mux.HandleFunc("POST /v1/owner", s.owner)
	mux.HandleFunc("POST /v1/migrate", s.migrate)
	mux.HandleFunc("POST /v1/place", s.place)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.fail(w, http.StatusNotFound, fmt.Errorf("%s %s: this agent does not know that request; is mosixctl newer than mosixd?", r.Method, r.URL.Path))
	})
	s.http = &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, askerKey{}, c.(*conn).asker)
		},
	}
	return s
}

// Serve answers on l, which comes from Listen, until Shutdown. It returns nil after a Shutdown.
func (s *Server) Serve(l *Listener) error {
	if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("control socket: %w", err)
	}
	return nil
}

// Shutdown stops listening and waits for requests under way until ctx ends; then it cuts them.
func (s *Server) Shutdown(ctx context.Context) error {
	if err := s.http.Shutdown(ctx); err != nil {
		return s.http.Close()
	}
	return nil
}

type askerKey struct{}

func asker(r *http.Request) Asker { return r.Context().Value(askerKey{}).(Asker) }

func (s *Server) status(w http.ResponseWriter, r *http.Request) {
	st, err := s.backend.Status(r.Context())
	if err != nil {
		s.failBackend(w, err)
		return
	}
	if st.Nodes == nil {
		st.Nodes = []api.Node{}
	}
	s.answer(w, http.StatusOK, st)
}

func (s *Server) processes(w http.ResponseWriter, r *http.Request) {
	ps, err := s.backend.Processes(r.Context(), asker(r), r.URL.Query().Get("all") == "1")
	if err != nil {
		s.failBackend(w, err)
		return
	}
	s.answer(w, http.StatusOK, asker(r).processes(ps))
}

func (s *Server) explain(w http.ResponseWriter, r *http.Request) {
	pid, home, err := id.ParsePID(r.URL.Query().Get("pid"))
	if err != nil {
		s.fail(w, http.StatusBadRequest, err)
		return
	}
	if h := r.URL.Query().Get("home"); h != "" {
		home = id.Node(h)
	}
	e, err := s.backend.Explain(r.Context(), asker(r), pid, home)
	if err != nil {
		s.failBackend(w, err)
		return
	}
	s.answer(w, http.StatusOK, asker(r).explanation(e))
}

func (s *Server) moves(w http.ResponseWriter, r *http.Request) {
	ms, err := s.backend.Moves(r.Context(), asker(r))
	if err != nil {
		s.failBackend(w, err)
		return
	}
	s.answer(w, http.StatusOK, asker(r).moves(ms))
}

func (s *Server) migrate(w http.ResponseWriter, r *http.Request) {
	req, err := readMigrate(w, r)
	if err != nil {
		s.fail(w, http.StatusBadRequest, err)
		return
	}
	if req.AllowPrivileged && !asker(r).Root() {
		s.fail(w, http.StatusForbidden, errors.New("only root may allow a privileged process to move: the host would compute with the rights that the process has at home"))
		return
	}
	res, err := s.backend.Migrate(r.Context(), asker(r), req)
	if err != nil {
		s.failBackend(w, err)
		return
	}
	if res.Refusals == nil {
		res.Refusals = image.Refusals{}
	}
	code := http.StatusOK
	switch res.Result {
	case api.ResultMoved:
	case api.ResultRefused:
		code = http.StatusConflict
	default:
		code = http.StatusBadGateway
	}
	s.answer(w, code, res)
}

// readBody reads the body of a request into what, and nothing after it.
func readBody(w http.ResponseWriter, r *http.Request, what any) error {
	// The deadline is for the body alone, and lifted after it: the server notices by reading that the asker hung up, and a
	// deadline that passes during a long move would look the same.
	rc := http.NewResponseController(w)
	if err := rc.SetReadDeadline(time.Now().Add(bodyTimeout)); err != nil {
		return err
	}
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBodyBytes))
	if err := dec.Decode(what); err != nil {
		return fmt.Errorf("read the request: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return errors.New("read the request: there is something after its end")
	}
	return rc.SetReadDeadline(time.Time{})
}

// place answers where a process is to begin.
func (s *Server) place(w http.ResponseWriter, r *http.Request) {
	var req api.PlaceRequest
	err := readBody(w, r, &req)
	if err == nil && req.PID <= 0 {
		err = fmt.Errorf("pid = %d: want the number of a process", req.PID)
	}
	if err != nil {
		s.fail(w, http.StatusBadRequest, err)
		return
	}
	p, err := s.backend.Place(r.Context(), asker(r), req)
	if err != nil {
		s.failBackend(w, err)
		return
	}
	s.answer(w, http.StatusOK, p)
}

// readMigrate reads and checks the body of a request to move.
func readMigrate(w http.ResponseWriter, r *http.Request) (api.MigrateRequest, error) {
	var req api.MigrateRequest
	if err := readBody(w, r, &req); err != nil {
		return req, err
	}
	switch {
	case req.PID <= 0:
		return req, fmt.Errorf("pid = %d: want the number of a process", req.PID)
	case req.To == "":
		return req, fmt.Errorf("to is empty: want the name of a node, %q or %q", api.ToHome, api.ToBest)
	}
	switch req.Strategy {
	case "":
		req.Strategy = api.Precopy
	case api.Precopy, api.StopAndCopy:
	default:
		return req, fmt.Errorf("strategy = %q: want %q or %q", req.Strategy, api.Precopy, api.StopAndCopy)
	}
	return req, nil
}

func (s *Server) failBackend(w http.ResponseWriter, err error) {
	code := http.StatusInternalServerError
	switch {
	case errors.Is(err, ErrNoProcess), errors.Is(err, ErrNoNode):
		code = http.StatusNotFound
	case errors.Is(err, ErrForbidden):
		code = http.StatusForbidden
	case errors.Is(err, ErrInvalid):
		code = http.StatusBadRequest
	case errors.Is(err, ErrUnavailable), errors.Is(err, context.Canceled):
		code = http.StatusServiceUnavailable
	}
	s.fail(w, code, err)
}

func (s *Server) fail(w http.ResponseWriter, code int, err error) {
	s.answer(w, code, api.Error{Error: err.Error()})
}

func (s *Server) answer(w http.ResponseWriter, code int, v any) {
	b, err := json.Marshal(v)
	if err != nil { // a load that is not a number
		s.log.Error("control: answer cannot be written as JSON", "type", fmt.Sprintf("%T", v), "error", err)
		code, b = http.StatusInternalServerError, []byte(`{"error":"the agent's answer cannot be written as JSON; see its log"}`)
	}
	if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(answerTimeout)); err != nil {
		s.log.Debug("control: no deadline for the answer", "error", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(b)+1))
	w.WriteHeader(code)
	if _, err := w.Write(append(b, '\n')); err != nil {
		s.log.Debug("control: the asker did not take its answer", "error", err)
	}
}
