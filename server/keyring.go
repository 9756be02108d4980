package server

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base32"
	"encoding/hex"
	"encoding/json/v2"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/jcs"
	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/server/internal/identity"
	"github.com/signetd/signet/server/internal/ledger"
)

// Errors of keys.
var (
	errKeyNotFound       = errors.New("there is no such key")
	errCANotFound        = errors.New("there is no such certificate or revocation list: /ca/ca.crt and /ca/crl are those of the CA that certifies now")
	errKeyState          = errors.New("the key's state does not allow this")
	errKeyInUse          = errors.New("the key is in use")
	errKeyNotRotatable   = errors.New("this key cannot be rotated")
	errSecondPerson      = errors.New("it takes a second administrator: nobody confirms the destruction that they have asked for")
	errNotRequested      = errors.New("there is no such request for this key's destruction: it may have lapsed or been withdrawn")
	errAlreadyRequested  = errors.New("the key's destruction has been asked for already")
	errDestructionStands = errors.New("the destruction is confirmed, and is carried out as soon as the HSM can")
)

// keyChange is one act of an administrator, who has proved themselves for it.
type keyChange struct {
	caller identity.Caller
	keyID  string
	reason string

	compromised bool // of a rotation: the key is known or suspected to be in somebody else's hands

	request string // hash of a call that may be retried; empty: it is not
}

// newKeyChange names a retried call: who, what, under which key, with which content.
func newKeyChange(caller identity.Caller, method, keyID, reason, requestID string, more ...string) (keyChange, error) {
	c := keyChange{caller: caller, keyID: keyID, reason: reason}
	if err := identity.CheckReason(reason); err != nil || requestID == "" {
		return c, err
	}
	b, err := jcs.Marshal(map[string]any{"actor": caller.ID, "content": append([]string{keyID, reason}, more...), "key": requestID, "method": method})
	if err != nil {
		return c, err
	}
	sum := sha256.Sum256(b)
	c.request = hex.EncodeToString(sum[:])
	return c, nil
}

// components are what the administrator has proved. The service itself proves nothing.
func (c keyChange) components() []string {
	if c.caller.Kind == chain.System {
		return []string{}
	}
	return keyComponents
}

// keyInfo is all that the ledger knows of a key.
type keyInfo struct {
	keyRow
	Attributes  map[string]string
	SPKI        []byte
	Certificate []byte // DER; nil without one
	Expires     time.Time
}

// key reads one key.
func (s *Server) key(keyID string) (info keyInfo, err error) {
	err = s.ledger.View(func(r *ledger.Read) error {
		row, err := rowOf(r, keyID)
		if err != nil {
			return err
		}
		info, err = s.keyInfo(r, row)
		return err
	})
	return info, err
}

// rowOf reads the row of a key.
func rowOf(r *ledger.Read, keyID string) (keyRow, error) {
	row, ok, err := getKey(r.View(keysProjectionName), keyID)
	if err == nil && !ok {
		err = errKeyNotFound
	}
	return row, err
}

func (s *Server) keyInfo(r *ledger.Read, row keyRow) (keyInfo, error) {
	info := keyInfo{keyRow: row}
	body, err := createdKey(r, row.Index)
	if err != nil {
		return info, err
	}
	info.Attributes = body.Attributes
	attachments, err := r.Attachments(row.Index)
	if err != nil {
		return info, err
	}
	if len(attachments) != 1 || body.KeyID != row.KeyID {
		return info, errKeyRow(row.Index)
	}
	if row.Role != identity.KeyPasswords { // a secret key has no public half
		info.SPKI = attachments[0]
	}
	if d := row.Destruction; d != nil && d.Confirmed == 0 && !s.clock().Before(d.Expires.Time()) {
		info.Destruction = nil // it has lapsed
	}
	if row.Certified == 0 {
		return info, nil
	}
	if attachments, err = r.Attachments(row.Certified); err != nil {
		return info, err
	}
	if len(attachments) == 0 {
		return info, errKeyRow(row.Certified)
	}
	certificate, err := x509.ParseCertificate(attachments[0])
	if err != nil {
		return info, err
	}
	info.Certificate, info.Expires = certificate.Raw, certificate.NotAfter
	return info, nil
}

// listKeys returns keys in the order in which they were made, from after an index on; of one signer, if one is named.
func (s *Server) listKeys(after uint64, signer string, limit int) ([]keyInfo, error) {
	var list []keyInfo
	err := s.ledger.View(func(r *ledger.Read) error {
		var failed error
		r.View(keysProjectionName).Ascend(bucketOrder, placeKey(after+1), func(_, keyID []byte) bool {
			if len(list) >= limit {
				return false
			}
			var row keyRow
			if row, failed = rowOf(r, string(keyID)); failed != nil {
				return false
			}
			if signer != "" && row.Signer != signer {
				return true
			}
			var info keyInfo
			if info, failed = s.keyInfo(r, row); failed != nil {
				return false
			}
			list = append(list, info)
			return true
		})
		return failed
	})
	return list, err
}

// change runs an administrator's change of a key in one command. A call that was carried out before changes nothing.
func (s *Server) change(ctx context.Context, c keyChange, emit func(tx *ledger.Tx, row keyRow) error) error {
	result, err := s.ledger.Do(ctx, func(tx *ledger.Tx) error {
		if err := s.identities.MayAdminister(tx, c.caller); err != nil {
			return err
		}
		row, err := rowOf(tx.Read, c.keyID)
		if err != nil || carriedOut(tx.Read, c.request) {
			return err
		}
		return emit(tx, row)
	})
	if err == nil {
		s.identities.Settle(ctx, result)
	}
	return err
}

func carriedOut(r *ledger.Read, request string) bool {
	return request != "" && len(r.Request(request)) > 0
}

// wrongKeyState says that a key's state is not the one that is needed.
func wrongKeyState(row keyRow) error { return fmt.Errorf("%w: it is %s", errKeyState, row.State) }

// disableKey keeps a key from signing until it is enabled.
func (s *Server) disableKey(ctx context.Context, c keyChange) error {
	return s.change(ctx, c, func(tx *ledger.Tx, row keyRow) error {
		if row.State != identity.KeyActive {
			return wrongKeyState(row)
		}
		switch row.Role {
		case keyLedger, keyTSA, keyClosing, keyCanary, identity.KeyPasswords:
			return fmt.Errorf("%w: without the %s key nothing can be signed at all; rotate it, or stop the server", errKeyInUse, row.Role)
		}
		tx.Emit(c.changed(chain.KeyDisabled, row, identity.KeyDisabled))
		return nil
	})
}

// enableKey ends what disableKey has begun. Nobody does it for their own key.
func (s *Server) enableKey(ctx context.Context, c keyChange) error {
	return s.change(ctx, c, func(tx *ledger.Tx, row keyRow) error {
		switch {
		case row.State != identity.KeyDisabled:
			return wrongKeyState(row)
		case row.Signer == c.caller.ID:
			return fmt.Errorf("%w: nobody enables their own key; ask another administrator", identity.ErrForbidden)
		}
		tx.Emit(c.changed(chain.KeyEnabled, row, identity.KeyActive))
		return nil
	})
}

func (c keyChange) changed(typ chain.Type, row keyRow, to string) ledger.Event {
	return ledger.Event{Type: typ, Actor: c.caller.Actor(), Request: c.request, Body: keyChanged{
		Components: keyComponents, From: row.State, ID: row.ID, KeyID: row.KeyID, Reason: c.reason, Role: row.Role, Signer: row.Signer, To: to,
	}}
}

// rotateKey lets a new key take the place of one, and returns its id. What the old one has signed goes on verifying.
func (s *Server) rotateKey(ctx context.Context, c keyChange) (string, error) {
	s.keyChanges.Lock() // the parts that use the new keys change in the order of the ledger
	defer s.keyChanges.Unlock()
	var row keyRow
	var earlier string
	err := s.ledger.View(func(r *ledger.Read) (err error) {
		if err := s.identities.MayAdminister(r, c.caller); err != nil {
			return err
		}
		if row, err = rowOf(r, c.keyID); err != nil {
			return err
		}
		if earlier, err = rotatedBy(r, c.request); err != nil || earlier != "" {
			return err
		}
		return mayRotate(row)
	})
	if err != nil || earlier != "" {
		return earlier, err
	}
	switch {
	case row.Signer != "":
		return s.rotateSigner(ctx, c, row)
	case row.Role == keyTSA:
		return s.rotateTSA(ctx, c, row)
	case row.Role == keyCA:
		return s.rotateCA(ctx, c, row)
	case row.Role == keyLedger:
		return "", fmt.Errorf("%w: every verifier pins the ledger's key, and the change must be signed by both keys and stand in every trust file first; "+
			"this version cannot do that", errKeyNotRotatable)
	case row.Role == keyCanary:
		return "", fmt.Errorf("%w: the canary signs nothing that lasts and has one label in every token; a new token gets a new one", errKeyNotRotatable)
	}
	if row.Role == identity.KeyPasswords {
		return "", fmt.Errorf("%w: every password would have to be set anew", errKeyNotRotatable)
	}
	return "", fmt.Errorf("%w: it belongs to nobody", errKeyNotRotatable)
}

// mayRotate refuses keys whose place was taken already, or whose signer is gone.
func mayRotate(row keyRow) error {
	if row.State != identity.KeyActive && row.State != identity.KeyDisabled {
		return wrongKeyState(row)
	}
	return nil
}

// rotatedBy returns which key an earlier call of the same request has made.
func rotatedBy(r *ledger.Read, request string) (string, error) {
	if !carriedOut(r, request) {
		return "", nil
	}
	b, err := r.Entry(r.Request(request)[0])
	if err != nil {
		return "", err
	}
	e, err := chain.ParseEntry(b)
	if err != nil {
		return "", err
	}
	var body keyRotated
	err = readBody(e, &body)
	return body.Successor, err
}

// commitRotation commits a rotation whose key was made: emit adds what the role needs.
func (s *Server) commitRotation(ctx context.Context, c keyChange, before keyRow, successor string, emit func(tx *ledger.Tx) error) error {
	result, err := s.ledger.Do(ctx, func(tx *ledger.Tx) error {
		if err := s.identities.MayAdminister(tx, c.caller); err != nil {
			return err
		}
		row, err := rowOf(tx.Read, c.keyID)
		if err != nil {
			return err
		}
		if err := mayRotate(row); err != nil {
			return err
		}
		if row.Changed != before.Changed {
			return fmt.Errorf("%w: it was changed at the same time; try again", errKeyState)
		}
		if err := emit(tx); err != nil {
			return err
		}
		tx.Emit(ledger.Event{Type: chain.KeyRotated, Actor: c.caller.Actor(), Request: c.request, Body: keyRotated{
			Components: c.components(), Compromised: c.compromised, From: row.State, ID: row.ID, KeyID: row.KeyID, Reason: c.reason, Role: row.Role, Signer: row.Signer,
			Successor: successor, To: identity.KeyRetired,
		}})
		return nil
	})
	if err == nil {
		s.identities.Settle(ctx, result)
	}
	return err
}

// rotateSigner rotates the key of a person or service.
func (s *Server) rotateSigner(ctx context.Context, c keyChange, row keyRow) (string, error) {
	prefix := "signer-" + row.Signer
	if own(row.Role) {
		prefix = row.Role
	}
	rotation, err := s.identities.BeginRotation(ctx, c.caller, row.Signer, row.KeyID, row.Role, identity.NewLabel(prefix))
	if err != nil {
		return "", err
	}
	successor := rotation.Key().KeyID
	err = s.commitRotation(ctx, c, row, successor, func(tx *ledger.Tx) error { return s.identities.EmitRotation(tx, c.caller, rotation) })
	if err != nil {
		s.unnamed(ctx, rotation.Key().ID, err)
		return "", err
	}
	return successor, nil
}

// unnamed destroys a key that no entry names. Where the ledger does not know whether one does, the key stays.
func (s *Server) unnamed(ctx context.Context, id keystore.ID, cause error) {
	if errors.Is(cause, ledger.ErrUnavailable) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := s.keys.Destroy(ctx, id); err != nil {
		s.log.WarnContext(ctx, "a key that nothing refers to stays in the HSM", "key", id, "error", err)
	}
}

// newOwnKey makes a key of the service's own, and its key.created.
func (s *Server) newOwnKey(ctx context.Context, c keyChange, row keyRow) (keystore.Key, ledger.Event, error) {
	key, err := s.keys.Generate(ctx, keystore.Spec{ID: identity.NewLabel(row.Role), Algorithm: keystore.Algorithm(row.Algorithm)})
	if err != nil {
		return key, ledger.Event{}, err
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public)
	if err != nil {
		s.unnamed(ctx, key.ID, err)
		return key, ledger.Event{}, err
	}
	return key, ledger.Event{Type: chain.KeyCreated, Actor: c.caller.Actor(), Attachments: [][]byte{spki}, Body: keyCreated{
		Algorithm: string(key.Algorithm), Attributes: key.Attributes, ID: string(key.ID), KeyID: key.KeyID, Role: row.Role,
	}}, nil
}

// issued is certificate.issued.
func issued(actor chain.Actor, role string, key keystore.Key, certificate *x509.Certificate) ledger.Event {
	digest := sha256.Sum256(certificate.Raw)
	return ledger.Event{Type: chain.CertificateIssued, Actor: actor, Attachments: [][]byte{certificate.Raw}, Body: certificateIssued{
		Certificate: hex.EncodeToString(digest[:]), KeyID: key.KeyID, NotAfter: certificate.NotAfter.UTC().Format(time.RFC3339), Role: role,
	}}
}

// newDestructionID returns an id of 128 random bits.
func newDestructionID() string {
	b := make([]byte, 16)
	rand.Read(b)
	return "dst_" + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b))
}

// newest reports whether a key of the service's own is the newest of its role.
func newest(r *ledger.Read, row keyRow) (bool, error) {
	b := r.View(keysProjectionName).Get(bucketKeys, []byte(row.Role))
	if b == nil {
		return false, nil
	}
	var state keyState
	err := json.Unmarshal(b, &state)
	return state.KeyID == row.KeyID, err
}
