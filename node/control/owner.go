package control

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"mosix/internal/id"
	"mosix/node/api"
)

func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	since := uint64(0)
	if q := r.URL.Query().Get("since"); q != "" {
		var err error
		if since, err = strconv.ParseUint(q, 10, 64); err != nil {
			s.fail(w, http.StatusBadRequest, fmt.Errorf("since = %q: want the number of an event", q))
			return
		}
	}
	es, err := s.backend.Events(r.Context(), asker(r), since)
	if err != nil {
		s.failBackend(w, err)
		return
	}
	if es.Events == nil {
		es.Events = []api.Event{}
	}
	s.answer(w, http.StatusOK, es)
}

func (s *Server) whyNot(w http.ResponseWriter, r *http.Request) {
	pid, home, err := id.ParsePID(r.URL.Query().Get("pid"))
	if err == nil && home != "" {
		err = fmt.Errorf("%d@%s: ask the agent of %s, or of the node where it runs, for its own processes", pid, home, home)
	}
	if err != nil {
		s.fail(w, http.StatusBadRequest, err)
		return
	}
	x, err := s.backend.WhyNot(r.Context(), asker(r), pid)
	if err != nil {
		s.failBackend(w, err)
		return
	}
	s.answer(w, http.StatusOK, api.WhyNot{Explanation: asker(r).explanation(x.Explanation), Policy: x.Policy, Would: x.Would, To: x.To, Why: x.Why, Began: x.Began, Inputs: x.Inputs})
}

func (s *Server) ownerShow(w http.ResponseWriter, r *http.Request) {
	s.answerOwner(w, r, api.OwnerRequest{Op: api.OpShow})
}

func (s *Server) owner(w http.ResponseWriter, r *http.Request) {
	var req api.OwnerRequest
	if err := readBody(w, r, &req); err != nil {
		s.fail(w, http.StatusBadRequest, err)
		return
	}
	switch req.Op {
	case api.OpShow, api.OpLock, api.OpUnlock: // a process is locked by whoever owns it
	case api.OpBlock, api.OpUnblock, api.OpStay, api.OpNoStay, api.OpExpel, api.OpBring, api.OpSetSpeed, api.OpHere, api.OpGone, api.OpAuto:
		if !asker(r).Root() {
			s.fail(w, http.StatusForbidden, fmt.Errorf("%s: %w: only root may say what this node does for others", req.Op, ErrForbidden))
			return
		}
	default:
		s.fail(w, http.StatusBadRequest, fmt.Errorf("op = %q is not known; is mosixctl newer than mosixd?", req.Op))
		return
	}
	switch {
	case (req.Op == api.OpLock || req.Op == api.OpUnlock) && req.PID <= 0:
		s.fail(w, http.StatusBadRequest, fmt.Errorf("pid = %d: want the number of a process", req.PID))
	case req.Op == api.OpSetSpeed && !(req.Speed >= 0 && req.Speed <= 1000):
		s.fail(w, http.StatusBadRequest, errors.New("speed: want a number above 0, 1 for a standard processor, or 0 for what was measured"))
	default:
		s.answerOwner(w, r, req)
	}
}

func (s *Server) answerOwner(w http.ResponseWriter, r *http.Request, req api.OwnerRequest) {
	st, err := s.backend.Owner(r.Context(), asker(r), req)
	if err != nil {
		s.failBackend(w, err)
		return
	}
	if st.Left == nil {
		st.Left = []api.Left{}
	}
	s.answer(w, http.StatusOK, st)
}
