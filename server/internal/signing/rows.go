package signing

import (
	"bytes"
	"encoding/binary"

	"github.com/signetd/signet/server/internal/ledger"
)

// row is a signature of a record and its place in the ledger.
type row struct {
	index uint64
	signatureState
}

// signatures returns the signatures of a record in the order of the ledger.
func signatures(view *ledger.State, key []byte) ([]row, error) {
	var rows []row
	var failed error
	view.Ascend(bucketSignatures, key, func(k, v []byte) bool {
		if !bytes.HasPrefix(k, key) || len(k) != len(key)+8 {
			return false
		}
		r := row{index: binary.BigEndian.Uint64(k[len(key):])}
		failed = decode(bucketSignatures, v, &r.signatureState)
		rows = append(rows, r)
		return failed == nil
	})
	return rows, failed
}

// previous is the digest of the newest statement whose entry lies below size; empty if there is none.
func previous(rows []row, size uint64) string {
	last := ""
	for _, r := range rows {
		if r.index >= size {
			break
		}
		last = r.Statement
	}
	return last
}

// newestBelow is [previous] without reading all rows.
func newestBelow(view *ledger.State, key []byte, size uint64) (string, error) {
	var newest signatureState
	var failed error
	view.Descend(bucketSignatures, append(bytes.Clone(key), indexKey(size)...), func(k, v []byte) bool {
		if bytes.HasPrefix(k, key) {
			failed = decode(bucketSignatures, v, &newest)
		}
		return false
	})
	return newest.Statement, failed
}
