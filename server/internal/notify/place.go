package notify

import (
	"bytes"
	"encoding/binary"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/ledger"
)

// maxPlaces is how many earlier sources a new one is compared with, the newest first.
const maxPlaces = 64

// Seen raises device.new if a person proves themselves from an address or device from which they never have before. It belongs into the
// transaction that emits session.opened at the index entry, after the source was put. The text of a source is what source returns for its
// commitment, nil where it was erased: each process blinds anew, so that commitments alone tell nothing.
//
// The first source of a person is that of their enrolment, and no news. Where the texts of sources are not kept there are no news at all: nothing
// can be told apart.
func Seen(tx *ledger.Tx, by chain.Actor, entry uint64, source func(commitment string) []byte) {
	if by.Kind != chain.Person || by.Source == "" {
		return
	}
	view := tx.View(projectionName)
	text := source(by.Source)
	if text == nil || view.Get(bucketPlaces, under(by.ID, []byte(by.Source))) != nil {
		return
	}
	n, known := 0, false
	prefix := under(by.ID, nil)
	view.Descend(bucketRecent, under(by.ID, bytes.Repeat([]byte{0xff}, 8)), func(k, commitment []byte) bool {
		if !bytes.HasPrefix(k, prefix) {
			return false
		}
		n++
		known = bytes.Equal(source(string(commitment)), text)
		return !known && n < maxPlaces
	})
	if known || n == 0 {
		return
	}
	Raise(tx, Alert{Kind: KindDeviceNew, Subject: by.ID, Summary: "Somebody has logged in from an address or device that is new for this person.", Entry: entry, Audience: Signer})
}

// since returns the entry with which a source of a person was new, if it was announced as new.
func since(s *ledger.State, signer, commitment string) (index uint64, ok bool) {
	b := s.Get(bucketNew, under(signer, []byte(commitment)))
	if len(b) != 8 {
		return 0, false
	}
	return binary.BigEndian.Uint64(b), true
}
