package ledger

import (
	"bytes"
	"reflect"
	"testing"
	"time"

	"github.com/signetd/signet/api/chain"
)

// FuzzState reads arbitrary bytes as ledger.state: what is read is what is written again.
func FuzzState(f *testing.F) {
	whole := state{clean: true, transaction: 31, bytes: 65536, modified: time.Unix(0, 1700000000000000000), entries: 12, root: chain.Hash{1}, restored: []uint64{7}}
	for _, s := range []state{whole, {modified: time.Unix(0, 0)}} {
		b, err := s.encode("test.example/ledger")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		f.Add(bytes.Replace(b, []byte(`"entries":"`), []byte(`"entries":"0`), 1))
		f.Add(bytes.Replace(b, []byte(`{`), []byte(`{"bytes":"1",`), 1))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parseState("ledger.state", b, "test.example/ledger")
		if err != nil {
			return
		}
		again, err := s.encode("test.example/ledger")
		if err != nil {
			t.Fatal(err)
		}
		same, err := parseState("ledger.state", again, "test.example/ledger")
		if err != nil || !reflect.DeepEqual(s, same) {
			t.Fatalf("%+v became %+v: %v", s, same, err)
		}
	})
}
