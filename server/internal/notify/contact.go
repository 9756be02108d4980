package notify

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json/v2"
	"errors"
	"fmt"
	"net/mail"
	"strings"

	"github.com/signetd/signet/api/jcs"
	"github.com/signetd/signet/server/internal/ledger"
)

// Where a signer is told lies in the private store: 32 random bytes and the address, under the signer and the SHA-256 of that, which is what the
// entries name.
const (
	privateContacts = "notify.contacts" // signer id, "/", commitment → blinding and address
	maxAddress      = 254               // RFC 5321, 4.5.3.1.3
)

// ErrContact says that an address cannot be one. Give another.
var ErrContact = errors.New("not an e-mail address")

// ErrContactTampered says that a stored address is not the one that the ledger has committed to.
var ErrContactTampered = errors.New("a stored address does not match its commitment in the ledger")

type address struct {
	Email string `json:"email"`
}

// CheckAddress refuses what is not one plain address of e-mail, such as ada@example.com.
func CheckAddress(email string) error {
	a, err := mail.ParseAddress(email)
	at := strings.LastIndexByte(email, '@')
	switch {
	case len(email) > maxAddress:
		return fmt.Errorf("%w: it has %d bytes; at most %d", ErrContact, len(email), maxAddress)
	case strings.ContainsFunc(email, func(r rune) bool { return r <= ' ' || r >= 0x7f }):
		return fmt.Errorf("%w: use ASCII alone, for a domain in other letters its form with xn--", ErrContact)
	case err != nil || a.Address != email || a.Name != "" || at > 64 || strings.ContainsAny(email, " \t\r\n<>\",;"):
		return fmt.Errorf("%w: give it plain, such as ada@example.com", ErrContact)
	}
	return nil
}

// Contact is a new address with its commitment.
type Contact struct {
	Commitment string
	private    []byte
}

// NewContact blinds an address.
func NewContact(email string) (Contact, error) {
	if err := CheckAddress(email); err != nil {
		return Contact{}, err
	}
	text, err := jcs.Marshal(address{email})
	if err != nil {
		return Contact{}, err
	}
	private := make([]byte, 32, 32+len(text))
	rand.Read(private)
	private = append(private, text...)
	return Contact{Commitment: hexSum(private), private: private}, nil
}

// Put stores the address in the transaction of the entry that names it.
func (c Contact) Put(tx *ledger.Tx, signer string) {
	tx.PutPrivate(privateContacts, contactKey(signer, c.Commitment), c.private)
}

// EraseContact erases an address in the transaction of the entry that says so.
func EraseContact(tx *ledger.Tx, signer, commitment string) {
	tx.DeletePrivate(privateContacts, contactKey(signer, commitment))
}

// ContactOf returns the commitment to where a signer is told; empty: nowhere.
func ContactOf(r *ledger.Read, signer string) string {
	return string(r.View(projectionName).Get(bucketContacts, []byte(signer)))
}

func contactKey(signer, commitment string) []byte { return []byte(signer + "/" + commitment) }

// email reads an address; empty: it was erased.
func email(r *ledger.Read, signer, commitment string) (string, error) {
	b := r.GetPrivate(privateContacts, contactKey(signer, commitment))
	if commitment == "" || b == nil {
		return "", nil
	}
	if hexSum(b) != commitment || len(b) < 32 {
		return "", fmt.Errorf("%w: that of %s", ErrContactTampered, signer)
	}
	var a address
	if err := json.Unmarshal(b[32:], &a, json.RejectUnknownMembers(true)); err != nil {
		return "", fmt.Errorf("%w: that of %s: %w", ErrContactTampered, signer, err)
	}
	return a.Email, nil
}

// privateRows is how many rows one step of [CheckSomePrivate] looks at.
const privateRows = 512

// CheckSomePrivate holds the stored addresses against their commitments, in steps: it begins at from, empty at first, and returns where the next
// step begins, empty after the last one. An address that was erased is missing, which is right.
func CheckSomePrivate(r *ledger.Read, from string) (next string, err error) {
	var wrong []error
	n := 0
	r.AscendPrivate(privateContacts, []byte(from), func(key, value []byte) bool {
		if n++; n > privateRows {
			next = string(key)
			return false
		}
		if _, commitment, _ := strings.Cut(string(key), "/"); hexSum(value) != commitment {
			wrong = append(wrong, fmt.Errorf("%w: %.120q", ErrContactTampered, key))
		}
		return true
	})
	return next, errors.Join(wrong...)
}

func hexSum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
