package identity

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"sync"

	"github.com/signetd/signet/api/jcs"
	"github.com/signetd/signet/server/internal/ledger"
)

// Source is where a call comes from. It is personal data: the ledger holds a blinded commitment to it, the text lies in
// the private store, where it can be erased.
type Source struct {
	Address string // without port
	Device  string // what the client says it is
}

const (
	privateSources = "identity.sources" // commitment → blinding and text
	sourceBlinding = 32                 // bytes of blinding
	maxSourceText  = 256
	maxSources     = 4096 // in the cache
)

// sourceProof is a source with its commitment.
type sourceProof struct {
	commitment string // hex SHA-256 of private
	private    []byte // 32 random bytes, then the source in canonical JSON; nil where none are kept
}

// sourceCache keeps the commitments of this process, so that one connection does not store its source with every entry.
type sourceCache struct {
	keep bool // the text, beside the ledger

	mu    sync.Mutex
	known map[Source]sourceProof
}

func newSourceCache(what Sources) *sourceCache {
	return &sourceCache{keep: what != SourcesCommitmentOnly, known: map[Source]sourceProof{}}
}

// of returns the commitment to a source; the zero source has none.
func (c *sourceCache) of(s Source) (sourceProof, error) {
	if s == (Source{}) {
		return sourceProof{}, nil
	}
	s = Source{Address: clip(s.Address), Device: clip(s.Device)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if p, ok := c.known[s]; ok {
		return p, nil
	}
	text, err := jcs.Marshal(map[string]string{"address": s.Address, "device": s.Device})
	if err != nil {
		return sourceProof{}, err
	}
	private := make([]byte, sourceBlinding, sourceBlinding+len(text))
	rand.Read(private)
	private = append(private, text...)
	sum := sha256.Sum256(private)
	p := sourceProof{commitment: hex.EncodeToString(sum[:])}
	if c.keep {
		p.private = private
	}
	if len(c.known) >= maxSources { // start again: a source that comes back gets another commitment
		clear(c.known)
	}
	c.known[s] = p
	return p, nil
}

// clip makes a client's text fit to be stored.
func clip(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) > maxSourceText {
		s = strings.ToValidUTF8(s[:maxSourceText], "")
	}
	return s
}

// put stores the source in the transaction of the entry that names it. Storing it again changes nothing; one that was erased meanwhile
// stays so.
func (p sourceProof) put(tx *ledger.Tx) {
	if p.private != nil && tx.View(projectionName).Get(bucketErased, []byte(p.commitment)) == nil {
		tx.PutPrivate(privateSources, []byte(p.commitment), p.private)
	}
}
