package server

import (
	"context"
	"math"
	"time"

	ledgerindex "github.com/signetd/signet/server/internal/index"
	"github.com/signetd/signet/server/internal/ledger"
)

// IndexFile is the name of the index in the data folder. It can be deleted: it is made anew from the entries.
const IndexFile = "index.db"

// IndexConfig says how often the root of the index over all entries is committed to the ledger.
type IndexConfig struct {
	Every  int      `json:"every" doc:"entries after which the root of the index is committed to the ledger, at most once a second"`
	Within Duration `json:"within" doc:"it is committed after this long at the latest, if there is anything new"`
}

func defaultIndex() IndexConfig { return IndexConfig{Every: 1000, Within: Duration(time.Minute)} }

func (c IndexConfig) validate(bad func(key, format string, args ...any) error) error {
	if c.Every < 1 || c.Every > math.MaxInt32 {
		return bad("ledger.index.every", "%d; use a number above zero, such as 1000", c.Every)
	}
	if c.Within <= 0 {
		return bad("ledger.index.within", "%v; use a duration above zero, such as 1m", time.Duration(c.Within))
	}
	return nil
}

// openIndex makes the index. It is brought up to date by followIndex.
func (s *Server) openIndex() (err error) {
	c := s.config.Ledger.Index
	o := ledgerindex.Options{
		Path: s.config.Path(IndexFile), Ledger: s.ledger, Every: uint64(c.Every), Within: time.Duration(c.Within), Clock: s.clock, Log: s.log,
	}
	if s.config.Ledger.Witness.Policy != "" { // proofs carry the witnesses' signatures
		o.Preferred = s.ledger.Cosigned
	}
	s.index, err = ledgerindex.Open(o)
	return err
}

// followIndex keeps the index up to date until ctx ends.
func (s *Server) followIndex(ctx context.Context) {
	s.background.Go(func() { s.index.Run(ctx) })
}

// indexAuditor compares every committed root of the index with the entries. Its temporary file lies in the data folder.
func indexAuditor(c Config) ledger.Auditor { return ledgerindex.Auditor(c.DataDir) }
