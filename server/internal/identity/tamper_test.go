package identity

import (
	"encoding/json/v2"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// edit changes rows of the ledger's file behind the program's back.
func edit(t *testing.T, path, top, sub string, change func(rows map[string][]byte)) {
	t.Helper()
	names := []string{top}
	if sub != "" {
		names = append(names, sub)
	}
	editBucket(t, path, names, change)
}

// editRow changes rows of this package's projection.
func editRow(t *testing.T, path, bucket string, change func(rows map[string][]byte)) {
	t.Helper()
	editBucket(t, path, []string{"projections", projectionName, "1", bucket}, change)
}

func editBucket(t *testing.T, path string, names []string, change func(rows map[string][]byte)) {
	t.Helper()
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte(names[0]))
		for _, name := range names[1:] {
			b = b.Bucket([]byte(name))
		}
		rows := map[string][]byte{}
		err := b.ForEach(func(k, v []byte) error {
			rows[string(k)] = append([]byte{}, v...)
			return nil
		})
		if err != nil {
			return err
		}
		change(rows)
		for k, v := range rows {
			if err := b.Put([]byte(k), v); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func unmarshal(t *testing.T, b []byte, v any) {
	t.Helper()
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatal(err)
	}
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
