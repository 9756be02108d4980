package ledger

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json/v2"
	"fmt"
	"hash"
	"slices"
	"strconv"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/tiles"
)

// Archived is the body of a ledger.archived entry: the full entry bundles First, First+1, … are in the archive, by the SHA-256 of their
// bytes (C2SP tlog-tiles), and were read back from there.
type Archived struct {
	Bundles []string `json:"bundles"` // hex
	First   string   `json:"first"`   // number of the first one; its entries begin at 256 times that
	Store   string   `json:"store"`   // where, as the configuration says
}

// noteArchived keeps what a ledger.archived entry says.
func (w *entryWalk) noteArchived(where string, e chain.Entry) error {
	if e.Type != chain.LedgerArchived {
		return nil
	}
	var body Archived
	if err := json.Unmarshal(e.Body, &body, json.RejectUnknownMembers(true)); err != nil {
		return w.fault(where, "what it says of the archive: %v", err)
	}
	first, err := strconv.ParseUint(body.First, 10, 62)
	if err != nil || strconv.FormatUint(first, 10) != body.First || len(body.Bundles) == 0 {
		return w.fault(where, "it names no entry bundles of the archive")
	}
	if end := first + uint64(len(body.Bundles)); end > e.Index/tiles.Width {
		return w.fault(where, "it archives entry bundle %d, which was not full", end-1)
	}
	for i, digest := range body.Bundles {
		n := first + uint64(i)
		if _, err := chain.ParseHash(digest); err != nil {
			return w.fault(where, "entry bundle %d of the archive: %v", n, err)
		}
		if !slices.Contains(w.archived[n], digest) {
			w.archived[n] = append(w.archived[n], digest)
		}
	}
	return nil
}

// archiveRows holds the list of what is in the archive against the entries.
func (w *entryWalk) archiveRows() error {
	b := w.tx.Bucket(archivedBucket)
	if b == nil {
		return nil
	}
	number := uint64(0)
	for r := newRows(b); r.k != nil; r.next() {
		where := fmt.Sprintf("list of the archive, key %x", r.k)
		if string(r.k) != string(indexKey(number)) {
			return w.fault(where, "want the row of entry bundle %d", number)
		}
		if !slices.Contains(w.archived[number], hex.EncodeToString(r.v)) {
			if err := w.fault(where, "no entry says that entry bundle %d is in the archive as %x", number, r.v); err != nil {
				return err
			}
		}
		number++
	}
	return nil
}

// archiveAuditor holds what ledger.archived entries say against the entries themselves: each bundle has the digest that they give. It is true of
// every walk, also over a file that has all entries itself, such as a restored one.
type archiveAuditor struct {
	bundle  hash.Hash
	digests [][sha256.Size]byte // of the full bundles so far
}

func (a *archiveAuditor) Entry(e chain.Entry, raw []byte) error {
	var fault error
	if e.Type == chain.LedgerArchived {
		fault = a.judge(e)
	}
	if a.bundle == nil {
		a.bundle = sha256.New()
	}
	a.bundle.Write([]byte{byte(len(raw) >> 8), byte(len(raw))})
	a.bundle.Write(raw)
	if (e.Index+1)%tiles.Width == 0 {
		a.digests = append(a.digests, [sha256.Size]byte(a.bundle.Sum(nil)))
		a.bundle.Reset()
	}
	return fault
}

func (a *archiveAuditor) judge(e chain.Entry) error {
	var body Archived
	if err := json.Unmarshal(e.Body, &body, json.RejectUnknownMembers(true)); err != nil {
		return nil // said by the walk
	}
	first, err := strconv.ParseUint(body.First, 10, 48)
	if err != nil {
		return nil
	}
	for i, digest := range body.Bundles {
		n := first + uint64(i)
		if n >= uint64(len(a.digests)) {
			return nil
		}
		if want := hex.EncodeToString(a.digests[n][:]); digest != want {
			return fmt.Errorf("it says that entry bundle %d has the SHA-256 %.80s, but its entries give %s", n, digest, want)
		}
	}
	return nil
}
