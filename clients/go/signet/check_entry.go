package signet

import (
	"bytes"

	"github.com/signetd/signet/api/chain"
	signetv1 "github.com/signetd/signet/api/signet/v1"
)

// checkEntry holds what the server says of an entry against the entry's own bytes.
func checkEntry(e *signetv1.Entry, index uint64) error {
	parsed, err := chain.ParseEntry(e.GetContent())
	if err != nil {
		return contradiction("entry %d: %v", index, err)
	}
	leaf := chain.LeafHash(e.GetContent())
	switch {
	case e.GetIndex() != index || parsed.Index != index:
		return contradiction("asked for entry %d, got %d (bytes of entry %d)", index, e.GetIndex(), parsed.Index)
	case string(parsed.Type) != e.GetType():
		return contradiction("entry %d is of type %q, its bytes say %q", index, e.GetType(), parsed.Type)
	case !bytes.Equal(leaf[:], e.GetLeafHash()):
		return contradiction("entry %d: the leaf hash is not that of its bytes", index)
	case chain.NewTime(e.GetCreateTime().AsTime()) != parsed.Time:
		return contradiction("entry %d: its time is %s, the server says %s", index, parsed.Time, chain.NewTime(e.GetCreateTime().AsTime()))
	}
	return nil
}
