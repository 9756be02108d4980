package server

import (
	"net/http"
	"strings"

	"github.com/signetd/signet/server/internal/tiles"
)

// serveTiles adds the ledger in the form of C2SP tlog-tiles 0.1.0. The checkpoint and the tiles, which are hashes alone, are for everybody;
// entries are for those who may read them over gRPC.
func (s *Server) serveTiles(mux *http.ServeMux) {
	mux.HandleFunc("GET /ledger/checkpoint", s.webCheckpoint)
	mux.HandleFunc("GET /ledger/tile/", s.webTile)
}

func (s *Server) webCheckpoint(w http.ResponseWriter, r *http.Request) {
	note := s.ledger.Head().Note
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-cache")
	s.webWrite(w, r, note)
}

// webTile answers with a tile or an entry bundle of the tree that the newest checkpoint covers. At its path it never changes.
func (s *Server) webTile(w http.ResponseWriter, r *http.Request) {
	path, err := tiles.Parse(strings.TrimPrefix(r.URL.Path, "/ledger/"))
	if err == nil && !path.Fits(s.ledger.Head().Checkpoint.Size) {
		err = tiles.ErrBeyond
	}
	if err != nil {
		s.webError(w, r, err)
		return
	}
	cache := "public, max-age=31536000, immutable"
	if path.Level == tiles.Entries {
		w.Header().Set("Vary", "Authorization")
		if _, err := s.webReader(r, ledgerReader); err != nil {
			s.webError(w, r, err)
			return
		}
		cache = "private, max-age=31536000, immutable"
	}
	data, err := tiles.Read(r.Context(), s.ledger, path)
	if err != nil {
		s.webError(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Cache-Control", cache)
	s.webWrite(w, r, data)
}
