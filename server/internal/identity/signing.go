package identity

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/server/internal/ledger"
)

// Reader is what a *ledger.Tx and a *ledger.Read have in common.
type Reader interface {
	View(projection string) *ledger.State
	ProvedEntry(index uint64) ([]byte, error)
	Attachments(index uint64) ([][]byte, error)
}

// SigningIdentity is who signs, and with which key: all that a statement says of its signer.
type SigningIdentity struct {
	ID             string
	Name           string
	Title          string
	Organisation   string
	Roles          []string // as statements have them
	Zone           string
	Service        bool
	Key            keystore.ID
	KeyID          string
	Algorithm      keystore.Algorithm
	Public         crypto.PublicKey
	Enrolment      chain.Hash // leaf hash of the entry that bound name and key to the id
	EnrolmentIndex uint64
	Certificates   [][]byte // DER, the signer's first, the root last
}

// enrolment is what a proved entry says of a signer.
type enrolment struct {
	hash         chain.Hash
	id           string
	name         string
	title        string
	organisation string
	userName     string
	zone         string
	roles        []string
	service      bool
	credential   string

	accountability string      // version of the statement
	key            keystore.ID // the label in the HSM is the projection's word: whoever signs with it holds the result against the certificate
	keyID          string
	algorithm      keystore.Algorithm
	leaf           *x509.Certificate // nil without a key
	certificates   [][]byte
}

// provedCache keeps enrolments that were proved once. A proof holds for as long as the process: the tree only grows,
// and what is kept here cannot be changed by whoever changes the file.
type provedCache struct {
	mu   sync.RWMutex
	rows map[uint64]*enrolment
}

const maxProved = 10000

func newProvedCache() *provedCache { return &provedCache{rows: map[uint64]*enrolment{}} }

func (c *provedCache) get(index uint64) *enrolment {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.rows[index]
}

func (c *provedCache) set(index uint64, e *enrolment) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.rows) >= maxProved {
		clear(c.rows)
	}
	c.rows[index] = e
}

// rowCache spares decoding a row that has not changed. A row is what its bytes say: it is read each time and compared.
type rowCache struct {
	mu   sync.RWMutex
	rows map[string]decodedRow
}

type decodedRow struct {
	raw []byte
	row signerRow
}

const maxRows = 10000

func newRowCache() *rowCache { return &rowCache{rows: map[string]decodedRow{}} }

// get is getSigner. The slices in the row are shared and must not be changed.
func (c *rowCache) get(view reader, id string) (row signerRow, ok bool, err error) {
	if id == "" {
		return row, false, nil
	}
	raw := view.Get(bucketSigners, []byte(id))
	if raw == nil {
		return row, false, nil
	}
	c.mu.RLock()
	known, ok := c.rows[id]
	c.mu.RUnlock()
	if ok && bytes.Equal(known.raw, raw) {
		return known.row, true, nil
	}
	if err := decode(bucketSigners, raw, &row); err != nil {
		return row, false, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.rows) >= maxRows {
		clear(c.rows)
	}
	c.rows[id] = decodedRow{raw, row}
	return row, true, nil
}

// enrolment returns what the entry that last enrolled the signer says, proved by inclusion.
func (d *Directory) enrolment(r Reader, row signerRow) (*enrolment, error) {
	e := d.proved.get(row.Enrolled)
	if e == nil {
		var err error
		if e, err = d.readEnrolment(r, row.Enrolled); err != nil {
			return nil, err
		}
		d.proved.set(row.Enrolled, e)
	}
	if e.id != row.ID || e.hash != row.Enrolment || e.keyID != row.KeyID || e.service != row.Service {
		return nil, errTamperedRow(row.Enrolled)
	}
	return e, nil
}

func (d *Directory) readEnrolment(r Reader, index uint64) (*enrolment, error) {
	b, err := r.ProvedEntry(index)
	if err != nil {
		return nil, err
	}
	entry, err := chain.ParseEntry(b)
	if err != nil {
		return nil, err
	}
	e := &enrolment{hash: chain.LeafHash(b)}
	certificate := ""
	switch entry.Type {
	case chain.SignerEnrolled, chain.SignerRenewed:
		body, err := manifest.ParseSignerEnrolled(entry.Body)
		if err != nil {
			return nil, err
		}
		e.id, e.name, e.title, e.organisation, e.userName, e.zone = body.ID, body.Name, body.Title, body.Organisation, body.UserName, body.Zone
		e.roles, e.credential, e.keyID, certificate = body.Roles, body.Credential, body.KeyID, body.Certificate
		e.accountability = body.Accountability
	case chain.ServiceEnrolled, chain.ServiceRenewed:
		body, err := manifest.ParseServiceEnrolled(entry.Body)
		if err != nil {
			return nil, err
		}
		e.id, e.name, e.organisation, e.zone, e.service = body.ID, body.Name, body.Organisation, "UTC", true
		e.roles, e.keyID, certificate = body.Roles, body.KeyID, body.Certificate
	default:
		return nil, errTamperedRow(index)
	}
	if e.keyID == "" {
		return e, nil
	}
	e.key = keystore.ID(r.View(projectionName).Get(bucketKeys, []byte(e.keyID)))
	if e.key == "" {
		return nil, errTamperedRow(index)
	}
	attachments, err := r.Attachments(index)
	if err != nil {
		return nil, err
	}
	if len(attachments) == 0 || hexSum(attachments[0]) != certificate {
		return nil, fmt.Errorf("%w: the certificate beside entry %d is not the one that it names", ErrTampered, index)
	}
	if e.leaf, err = x509.ParseCertificate(attachments[0]); err != nil {
		return nil, fmt.Errorf("certificate of entry %d: %w", index, err)
	}
	if keystore.KeyID(e.leaf.PublicKey) != e.keyID {
		return nil, fmt.Errorf("%w: the certificate of entry %d is for another key", ErrTampered, index)
	}
	if e.algorithm, err = keystore.AlgorithmOf(e.leaf.PublicKey); err != nil {
		return nil, err
	}
	e.certificates, err = d.ca.Load().chain(e.leaf)
	return e, err
}

// SigningIdentity returns who would sign. It refuses who may not: suspended, revoked, without a key, with one that is
// disabled or destroyed, or with a certificate that does not hold now. Name, rights and key are read from the entry that enrolled them, proved against
// the last signed checkpoint; that nothing has ended them since is the projection's word, which `signetd ledger check`
// holds against all entries. It may be called inside of a command.
func (d *Directory) SigningIdentity(r Reader, id string) (SigningIdentity, error) {
	row, ok, err := d.rows.get(r.View(projectionName), id)
	if err != nil {
		return SigningIdentity{}, err
	}
	if !ok {
		return SigningIdentity{}, ErrNotFound
	}
	if err := stateError(row.State); err != nil {
		return SigningIdentity{}, err
	}
	if row.KeyID == "" || row.Enrolled == 0 {
		return SigningIdentity{}, ErrNoKey
	}
	if err := keyError(r.View(projectionName), row.KeyID); err != nil {
		return SigningIdentity{}, fmt.Errorf("%w: that of %s", err, id)
	}
	e, err := d.enrolment(r, row)
	if err != nil {
		return SigningIdentity{}, err
	}
	if !row.Service {
		if err := d.accountabilityOf(r, row, e); err != nil {
			return SigningIdentity{}, err
		}
	}
	if now := d.now(r); now.Before(e.leaf.NotBefore) || now.After(e.leaf.NotAfter) {
		return SigningIdentity{}, fmt.Errorf("%w: that of %s holds from %s to %s", ErrCertificateExpired, id,
			e.leaf.NotBefore.UTC().Format(time.RFC3339), e.leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	roles, err := d.rolesNow(r, row)
	if err != nil {
		return SigningIdentity{}, err
	}
	if !row.Service && !slices.Contains(roles, string(RoleSigner)) {
		return SigningIdentity{}, fmt.Errorf("%w: %s does not have the role %s now", ErrForbidden, id, RoleSigner)
	}
	return SigningIdentity{
		ID: e.id, Name: e.name, Title: e.title, Organisation: e.organisation, Roles: roles, Zone: e.zone, Service: e.service,
		Key: e.key, KeyID: e.keyID, Algorithm: e.algorithm, Public: e.leaf.PublicKey,
		Enrolment: e.hash, EnrolmentIndex: row.Enrolled, Certificates: e.certificates,
	}, nil
}

// Support returns the entries that a verdict about a signer's signature leans on: the enrolment that its statement
// names, by its leaf hash, and every revocation of the signer.
func (d *Directory) Support(r Reader, id string, enrolment chain.Hash) ([]uint64, error) {
	view := r.View(projectionName)
	index := view.Get(bucketEnrolments, enrolment[:])
	if len(index) != 8 {
		return nil, fmt.Errorf("%w: no entry with the leaf hash %s has enrolled %s", ErrNotFound, enrolment, id)
	}
	out := []uint64{binary.BigEndian.Uint64(index)}
	prefix := []byte(id + "/")
	view.Prefix(bucketRevocations, prefix, func(k, _ []byte) bool {
		out = append(out, binary.BigEndian.Uint64(k[len(prefix):]))
		return true
	})
	return out, nil
}
