package ledger

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"sort"

	bolt "go.etcd.io/bbolt"

	"github.com/signetd/signet/api/chain"
)

// The index of requests says which entries a request has brought about. Its records (the first 8 bytes of the request's hash, and
// the entry's index) come in random order, so each costs a page. To keep that page cheap to read and write, and the
// number of pages small, records are packed: a row holds up to maxRecords of them, sorted, and its key is a lower bound
// of them: that of the first row is zero, the others' their first record when they were split off. Two requests of the same first
// 8 bytes are told apart by their entries, which have the whole hash.
const (
	recordSize = 16
	maxRecords = 30
)

// requestRecord returns the record of an entry. request has been validated.
func requestRecord(request string, index uint64) []byte {
	r, _ := hex.AppendDecode(make([]byte, 0, recordSize), []byte(request[:16]))
	return binary.BigEndian.AppendUint64(r, index)
}

// floorRow returns the row that holds a record or would hold it; key is nil in an empty index.
func floorRow(c *bolt.Cursor, record []byte) (key, row []byte) {
	key, row = c.Seek(record)
	if bytes.Equal(key, record) {
		return key, row
	}
	if key == nil {
		return c.Last()
	}
	return c.Prev()
}

// findRecord returns at which record of a row a record stands or would stand.
func findRecord(row, record []byte) int {
	return sort.Search(len(row)/recordSize, func(i int) bool {
		return bytes.Compare(row[i*recordSize:(i+1)*recordSize], record) >= 0
	})
}

// putRequest adds a record.
func putRequest(b *bolt.Bucket, record []byte) error {
	key, row := floorRow(b.Cursor(), record)
	if key == nil {
		key = make([]byte, recordSize)
	}
	if len(row)%recordSize != 0 {
		return corrupt("the index of requests has a row of %d bytes", len(row))
	}
	at := findRecord(row, record) * recordSize
	longer := make([]byte, 0, len(row)+recordSize)
	longer = append(append(append(longer, row[:at]...), record...), row[at:]...)
	if len(longer) <= maxRecords*recordSize {
		return b.Put(key, longer)
	}
	half := len(longer) / recordSize / 2 * recordSize
	if err := b.Put(key, longer[:half:half]); err != nil {
		return err
	}
	return b.Put(longer[half:half+recordSize], longer[half:])
}

// eachRequest calls fn with the index in each record of a request hash's first 8 bytes, in order, until fn returns false.
func eachRequest(b *bolt.Bucket, request string, fn func(index uint64) bool) error {
	record := requestRecord(request, 0)
	prefix := record[:8]
	c := b.Cursor()
	for key, row := floorRow(c, record); key != nil; key, row = c.Next() {
		if len(key) != recordSize || len(row)%recordSize != 0 {
			return corrupt("the index of requests has a row of %d bytes", len(row))
		}
		if bytes.Compare(key[:8], prefix) > 0 {
			return nil
		}
		for at := findRecord(row, record) * recordSize; at < len(row); at += recordSize {
			if !bytes.HasPrefix(row[at:], prefix) {
				return nil
			}
			if !fn(binary.BigEndian.Uint64(row[at+8:])) {
				return nil
			}
		}
	}
	return nil
}

// hasRequest reports whether the index has the record of an entry.
func hasRequest(b *bolt.Bucket, request string, index uint64) (found bool, err error) {
	err = eachRequest(b, request, func(i uint64) bool {
		found = i == index
		return i < index
	})
	return found, err
}

// readRequest returns the indexes of the entries of a request, in order.
func readRequest(tx *bolt.Tx, request string, read func(index uint64) ([]byte, error)) ([]uint64, error) {
	if request == "" {
		return nil, nil
	}
	if _, err := chain.ParseHash(request); err != nil {
		return nil, nil // no entry has such a request
	}
	var candidates, out []uint64
	err := eachRequest(tx.Bucket(requestsBucket), request, func(i uint64) bool {
		candidates = append(candidates, i)
		return true
	})
	if err != nil {
		return nil, err
	}
	for _, index := range candidates {
		raw, err := read(index)
		if errors.Is(err, ErrUnavailable) {
			return nil, err
		}
		var lacking *awayError
		if errors.As(err, &lacking) {
			return nil, err
		}
		if err != nil {
			return nil, corrupt("the index of requests names an entry that is not there: %v", err)
		}
		e, err := chain.ParseEntry(raw)
		if err != nil {
			return nil, corrupt("entry %d: %v", index, err)
		}
		if e.Request == request {
			out = append(out, index)
		}
	}
	return out, nil
}

// countRequests checks that all rows are packed as they should be and returns how many records there are.
func countRequests(b *bolt.Bucket) (n uint64, err error) {
	var last []byte
	c := b.Cursor()
	for key, row := c.First(); key != nil; key, row = c.Next() {
		if len(key) != recordSize || len(row) == 0 || len(row)%recordSize != 0 || len(row) > maxRecords*recordSize ||
			bytes.Compare(key, row[:recordSize]) > 0 {
			return n, corrupt("the index of requests has a malformed row %x", key)
		}
		for ; len(row) > 0; row = row[recordSize:] {
			if bytes.Compare(last, row[:recordSize]) >= 0 {
				return n, corrupt("the index of requests is not in order at row %x", key)
			}
			last = row[:recordSize]
			n++
		}
	}
	return n, nil
}
