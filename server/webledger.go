package server

import (
	"net/http"
	"strconv"
)

// serveTiles adds the ledger in the form of C2SP tlog-tiles 0.1.0.
func (s *Server) serveTiles(mux *http.ServeMux) {
	mux.HandleFunc("GET /ledger/checkpoint", s.webCheckpoint)
}

func (s *Server) webCheckpoint(w http.ResponseWriter, _ *http.Request) {
	note := s.ledger.Head().Note
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Set("Content-Length", strconv.Itoa(len(note)))
	w.Write(note)
}
