package identity

import (
	"encoding/binary"
	"encoding/json/v2"
	"fmt"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/server/internal/ledger"
)

// The buckets of the projection. Keys that hold an index hold it in 8 bytes, big-endian.
const (
	projectionName = "identity"

	bucketSigners     = "signers"     // id → signerRow
	bucketNames       = "names"       // "person:" or "service:" and the name → id; never removed
	bucketOrder       = "order"       // index of the first entry → id
	bucketAdmins      = "admins"      // id → state, of administrators that are not revoked
	bucketPins        = "pins"        // "cert:" or "spki:" and the hex SHA-256 → id of the service
	bucketEnrolments  = "enrolments"  // leaf hash → index of the entry that enrolled a signer
	bucketRevocations = "revocations" // id, "/", index → nothing
	bucketKeys        = "keys"        // key id → label in the HSM
	bucketKeyStates   = "keystates"   // key id → state of a key that may not sign (KeyDisabled, …); those that may are not here
	bucketSessions    = "sessions"    // hex SHA-256 of the token → sessionRow
	bucketOpen        = "open"        // signer id, "/", session id → hex SHA-256 of the token
	bucketEnds        = "ends"        // milliseconds of the end, session id → hex SHA-256 of the token
	bucketFailures    = "failures"    // key of a counter → tally
	bucketPlaces      = "places"      // blinded network from which somebody has logged in → standingRow
	bucketLapses      = "lapses"      // milliseconds of the end, bucket, 0, key → nothing: rows that mean nothing any more then
	bucketMeta        = "meta"        // "names" → credentialRow of the key that blinds names
)

// signerRow is what the projection knows of a signer.
type signerRow struct {
	ID           string     `json:"id"`
	Index        uint64     `json:"index"` // of the first entry
	Created      chain.Time `json:"created"`
	Service      bool       `json:"service"`
	State        State      `json:"state"`
	Changed      uint64     `json:"changed"` // index of the entry that gave the state
	UserName     string     `json:"userName"`
	Login        string     `json:"login"`
	Name         string     `json:"name"`
	Title        string     `json:"title"`
	Organisation string     `json:"organisation"`
	Zone         string     `json:"zone"`
	Roles        []Role     `json:"roles"`
	KeyID        string     `json:"keyId"`
	Enrolled     uint64     `json:"enrolled"` // index of the entry that last bound name and key to the id; 0: none
	Enrolment    chain.Hash `json:"enrolment"`
	Credential   string     `json:"credential"` // commitment to the verifier; empty: none

	CredentialEntry uint64     `json:"credentialEntry"` // index of the signer.credential that has it; 0: the enrolment does
	PasswordSet     uint64     `json:"passwordSet"`     // index of the entry that set or removed the password
	PasswordTime    chain.Time `json:"passwordTime"`    // and its time
	PasswordShort   bool       `json:"passwordShort"`   // it is long enough with a second factor only
	TOTP            string     `json:"totp"`            // commitment to the sealed seed of one-time passwords; empty: none
	TOTPEntry       uint64     `json:"totpEntry"`       // index of the entry that set or removed it
	TOTPStep        uint64     `json:"totpStep"`        // the last step that has counted
	PasskeyEntry    uint64     `json:"passkeyEntry"`    // index of the entry that last bound or revoked a passkey of theirs

	Accountability string `json:"accountability"` // version of the statement that was acknowledged
	Accountable    uint64 `json:"accountable"`    // index of accountability.signed; 0: none

	Invitation invitationRow `json:"invitation"` // pending, if its Index is not 0
	Terms      uint64        `json:"terms"`      // of a service: index of the newest service.changed; 0: none
}

// invitationRow is a code that was not redeemed.
type invitationRow struct {
	Index    uint64     `json:"index"`
	Code     string     `json:"code"`
	Expires  chain.Time `json:"expires"`
	Name     string     `json:"name"`
	Title    string     `json:"title"`
	Proofing string     `json:"proofing"`
}

type sessionRow struct {
	ID      string     `json:"id"`
	Signer  string     `json:"signer"`
	Expires chain.Time `json:"expires"`
	Source  string     `json:"source"`
	Place   string     `json:"place"` // the network from which it was opened, blinded
	Opened  chain.Time `json:"opened"`
	Method  string     `json:"method"` // an authorization kind of the manifest
}

type credentialRow struct {
	Commitment string `json:"commitment"`
	Index      uint64 `json:"index"`
}

// Projection returns the state of signers, credentials and sessions as a function of the ledger's entries.
func Projection() ledger.Projection { return projection{} }

type projection struct{}

// Name implements ledger.Projection.
func (projection) Name() string { return projectionName }

// Version implements ledger.Projection.
func (projection) Version() int { return 2 }

// Apply implements ledger.Projection.
func (projection) Apply(s *ledger.State, e chain.Entry, entry []byte, attachments [][]byte) error {
	switch e.Type {
	case chain.KeyCreated:
		return applyKeyCreated(s, e)
	case chain.SignerInvited:
		return applyInvited(s, e)
	case chain.SignerEnrolled, chain.SignerRenewed:
		return applyEnrolled(s, e, entry)
	case chain.SignerCredential:
		return applyCredential(s, e)
	case chain.CredentialUsed:
		return applyUsed(s, e)
	case chain.SignerSuspended, chain.SignerReinstated:
		return applyChanged(s, e)
	case chain.SignerRevoked, chain.ServiceRevoked:
		return applyRevoked(s, e)
	case chain.ServiceEnrolled:
		return applyService(s, e, entry, attachments)
	case chain.SourceErased:
		return applyErased(s, e)
	case chain.ServiceChanged:
		return applyServiceChanged(s, e)
	case chain.ServiceRenewed:
		return applyServiceRenewed(s, e, entry)
	case chain.RoleAssigned:
		return applyAdministratorAssigned(s, e)
	case chain.KeyDisabled, chain.KeyEnabled, chain.KeyDestructionConfirmed, chain.KeyDestroyed:
		return applyKeyState(s, e)
	case chain.AccountabilitySigned:
		return applyAccountability(s, e)
	case chain.SignerChanged:
		return applyAltered(s, e)
	case chain.ActProposed:
		return applyProposed(s, e)
	case chain.ActConfirmed:
		return applyConfirmed(s, e)
	case chain.ActWithdrawn:
		return applyWithdrawn(s, e)
	case chain.PasskeyRegistered, chain.PasskeyVouched:
		return applyPasskey(s, e)
	case chain.PasskeyBound, chain.PasskeyRevoked:
		if err := applyPasskey(s, e); err != nil {
			return err
		}
		return applyPasskeysChanged(s, e)
	case chain.SessionOpened:
		return applySessionOpened(s, e)
	case chain.SessionClosed:
		return applySessionClosed(s, e)
	case chain.AuthenticationFailed:
		return applyFailed(s, e)
	case chain.SignerLocked:
		return applyLocked(s, e)
	case chain.SourceUnlocked:
		return applySourceUnlocked(s, e)
	case chain.SourceLocked:
		return applySourceLocked(s, e)
	case chain.SignerUnlocked:
		return applyUnlocked(s, e)
	case chain.SignatureAttempted, chain.KeyRotated, chain.KeyDestructionRequested, chain.KeyDestructionWithdrawn: // the proof was right
		return clearFailures(s, e.Actor)
	}
	return nil
}

func applyKeyCreated(s *ledger.State, e chain.Entry) error {
	var body keyCreated // of whatever key: others append such entries too
	if err := json.Unmarshal(e.Body, &body); err != nil {
		return fmt.Errorf("entry %d, %s: %w", e.Index, e.Type, err)
	}
	if body.KeyID == "" || body.ID == "" {
		return nil
	}
	s.Put(bucketKeys, []byte(body.KeyID), []byte(body.ID))
	return applyMACKey(s, e, body)
}

func applyInvited(s *ledger.State, e chain.Entry) error {
	body, err := readBody[signerInvited](e)
	if err != nil {
		return err
	}
	proofing, err := body.Proofing.digest()
	if err != nil {
		return fmt.Errorf("entry %d: %w", e.Index, err)
	}
	row, ok, err := getSigner(s, body.ID)
	if err != nil {
		return err
	}
	if !ok {
		row = signerRow{
			ID: body.ID, Index: e.Index, Created: e.Time, State: StateInvited, Changed: e.Index, UserName: body.UserName, Login: body.Login,
			Name: body.Name, Title: body.Title, Organisation: body.Organisation, Zone: body.Zone, Roles: rolesOf(body.Roles),
		}
		s.Put(bucketNames, personName(body.UserName), []byte(body.ID))
		s.Put(bucketOrder, indexKey(e.Index), []byte(body.ID))
	}
	row.Invitation = invitationRow{
		Index: e.Index, Code: body.Code, Expires: body.Expires, Name: body.Name, Title: body.Title, Proofing: proofing,
	}
	return putSigner(s, row)
}

func applyEnrolled(s *ledger.State, e chain.Entry, entry []byte) error {
	body, err := manifest.ParseSignerEnrolled(e.Body)
	if err != nil {
		return fmt.Errorf("entry %d: %w", e.Index, err)
	}
	row, err := mustSigner(s, e, body.ID)
	if err != nil {
		return err
	}
	// A new password has a new verifier with random salt.
	onlyKey := e.Type == chain.SignerRenewed && row.Enrolled != 0 && body.Credential == row.Credential
	row.Name, row.Title, row.Organisation, row.Zone, row.Roles = body.Name, body.Title, body.Organisation, body.Zone, rolesOf(body.Roles)
	row.KeyID, row.Credential, row.CredentialEntry = body.KeyID, body.Credential, 0
	row.Accountability = body.Accountability
	row.Enrolled, row.Enrolment = e.Index, chain.LeafHash(entry)
	s.Put(bucketEnrolments, row.Enrolment[:], indexKey(e.Index))
	if onlyKey { // an administrator has rotated the key: nobody has redeemed a code, and nothing but the key is another one
		return putSigner(s, row)
	}
	row.Invitation = invitationRow{}
	row.PasswordSet, row.PasswordTime, row.PasswordShort = e.Index, e.Time, false
	if row.State != StateActive {
		row.State, row.Changed = StateActive, e.Index
	}
	dropSessions(s, row.ID) // the credential is another one
	if err := dropTallies(s, ofName(row.Login)); err != nil {
		return err
	}
	return putSigner(s, row)
}

func applyCredential(s *ledger.State, e chain.Entry) error {
	body, err := readBody[signerCredential](e)
	if err != nil {
		return err
	}
	switch {
	case body.Kind == credentialNames && body.ID == "":
		return put(s, bucketMeta, []byte("names"), credentialRow{Commitment: body.Commitment, Index: e.Index})
	case body.ID != "":
		return applyCredentialOf(s, e, body)
	}
	return fmt.Errorf("entry %d: signer.credential of the unknown kind %.40q", e.Index, body.Kind)
}

func applyChanged(s *ledger.State, e chain.Entry) error {
	body, err := readBody[signerChanged](e)
	if err != nil {
		return err
	}
	row, err := mustSigner(s, e, body.ID)
	if err != nil {
		return err
	}
	row.State, row.Changed = StateSuspended, e.Index
	if e.Type == chain.SignerReinstated {
		row.State = StateActive
		if err := dropTallies(s, ofName(row.ID)); err != nil { // of a service: its certificates are looked at again
			return err
		}
	}
	dropSessions(s, row.ID)
	return putSigner(s, row)
}

func applyRevoked(s *ledger.State, e chain.Entry) error {
	body, err := manifest.ParseSignerRevoked(e.Body)
	if err != nil {
		return fmt.Errorf("entry %d: %w", e.Index, err)
	}
	row, err := mustSigner(s, e, body.ID)
	if err != nil {
		return err
	}
	row.State, row.Changed, row.Invitation = StateRevoked, e.Index, invitationRow{}
	row.Credential = ""
	s.Put(bucketRevocations, append([]byte(row.ID+"/"), indexKey(e.Index)...), nil)
	dropSessions(s, row.ID)
	return putSigner(s, row)
}

func applyService(s *ledger.State, e chain.Entry, entry []byte, attachments [][]byte) error {
	body, err := manifest.ParseServiceEnrolled(e.Body)
	if err != nil {
		return fmt.Errorf("entry %d: %w", e.Index, err)
	}
	s.Put(bucketNames, serviceName(body.Name), []byte(body.ID))
	s.Put(bucketOrder, indexKey(e.Index), []byte(body.ID))
	for _, c := range body.Clients {
		s.Put(bucketPins, []byte("cert:"+c), []byte(body.ID))
	}
	for _, a := range attachments {
		if spki := spkiOf(a); spki != nil && slices.Contains(body.Clients, hexSum(a)) {
			s.Put(bucketPins, []byte("spki:"+hexSum(spki)), []byte(body.ID))
		}
	}
	hash := chain.LeafHash(entry)
	s.Put(bucketEnrolments, hash[:], indexKey(e.Index))
	return putSigner(s, signerRow{
		ID: body.ID, Index: e.Index, Created: e.Time, Service: true, State: StateActive, Changed: e.Index, UserName: body.Name, Name: body.Name,
		Organisation: body.Organisation, Zone: "UTC", Roles: rolesOf(body.Roles), KeyID: body.KeyID, Enrolled: e.Index,
		Enrolment: hash,
	})
}

func applyServiceChanged(s *ledger.State, e chain.Entry) error {
	body, err := readBody[serviceChanged](e)
	if err != nil {
		return err
	}
	row, err := mustSigner(s, e, body.ID)
	if err != nil {
		return err
	}
	// What was a service's once is never another's.
	for _, c := range body.New.Clients {
		s.Put(bucketPins, []byte("cert:"+c.Certificate), []byte(body.ID))
		s.Put(bucketPins, []byte("spki:"+c.Key), []byte(body.ID))
	}
	if body.New.URI != "" {
		s.Put(bucketPins, []byte("uri:"+body.New.URI), []byte(body.ID))
	}
	row.Terms = e.Index
	return putSigner(s, row)
}

func applyServiceRenewed(s *ledger.State, e chain.Entry, entry []byte) error {
	body, err := manifest.ParseServiceEnrolled(e.Body)
	if err != nil {
		return fmt.Errorf("entry %d: %w", e.Index, err)
	}
	row, err := mustSigner(s, e, body.ID)
	if err != nil {
		return err
	}
	row.KeyID, row.Enrolled, row.Enrolment = body.KeyID, e.Index, chain.LeafHash(entry)
	s.Put(bucketEnrolments, row.Enrolment[:], indexKey(e.Index))
	return putSigner(s, row)
}

func applyKeyState(s *ledger.State, e chain.Entry) error {
	var body struct {
		KeyID string `json:"keyId"`
		To    string `json:"to"`
	}
	if err := json.Unmarshal(e.Body, &body); err != nil {
		return fmt.Errorf("entry %d, %s: %w", e.Index, e.Type, err)
	}
	if e.Type == chain.KeyEnabled {
		s.Delete(bucketKeyStates, []byte(body.KeyID))
	} else {
		s.Put(bucketKeyStates, []byte(body.KeyID), []byte(body.To))
	}
	return clearFailures(s, e.Actor) // a person's proof was right
}

func applySessionOpened(s *ledger.State, e chain.Entry) error {
	body, err := readBody[sessionOpened](e)
	if err != nil || body.Token == "" {
		return err
	}
	err = put(s, bucketSessions, []byte(body.Token), sessionRow{ID: body.Session, Signer: body.ID, Expires: body.Expires, Source: e.Actor.Source, Place: body.Place, Opened: e.Time, Method: body.Method})
	if err != nil {
		return err
	}
	s.Put(bucketOpen, openKey(body.ID, body.Session), []byte(body.Token))
	s.Put(bucketEnds, endKey(body.Expires, body.Session), []byte(body.Token))
	return clearKnock(s, body.ID, body.Place, e.Time)
}

func applySessionClosed(s *ledger.State, e chain.Entry) error {
	body, err := readBody[sessionClosed](e)
	if err != nil {
		return err
	}
	return dropSession(s, body.ID, body.Session)
}

// dropSession removes a session, if it is there.
func dropSession(s *ledger.State, signer, session string) error {
	token := s.Get(bucketOpen, openKey(signer, session))
	if token == nil {
		return nil
	}
	var row sessionRow
	if ok, err := get(s, bucketSessions, token, &row); err != nil || !ok {
		return err
	}
	s.Delete(bucketOpen, openKey(signer, session))
	s.Delete(bucketEnds, endKey(row.Expires, session))
	s.Delete(bucketSessions, token)
	return dropSessionTally(s, signer, session)
}

// dropSessions removes all sessions of a signer: they are broken by whatever changes the signer's rights or credential.
func dropSessions(s *ledger.State, signer string) {
	var sessions []string
	prefix := openKey(signer, "")
	s.Prefix(bucketOpen, prefix, func(k, _ []byte) bool {
		sessions = append(sessions, string(k[len(prefix):]))
		return true
	})
	for _, session := range sessions {
		_ = dropSession(s, signer, session)
	}
}

// reader is what a State offers for reading.
type reader interface {
	Get(bucket string, key []byte) []byte
}

func get(s reader, bucket string, key []byte, v any) (bool, error) {
	b := s.Get(bucket, key)
	if b == nil {
		return false, nil
	}
	return true, decode(bucket, b, v)
}

func put(s *ledger.State, bucket string, key []byte, v any) error {
	b, err := json.Marshal(v, json.Deterministic(true))
	if err != nil {
		return err
	}
	s.Put(bucket, key, b)
	return nil
}

func getSigner(s reader, id string) (row signerRow, ok bool, err error) {
	if id == "" {
		return row, false, nil
	}
	ok, err = get(s, bucketSigners, []byte(id), &row)
	return row, ok, err
}

// mustSigner is for entries about a signer that an earlier entry has named.
func mustSigner(s *ledger.State, e chain.Entry, id string) (signerRow, error) {
	row, ok, err := getSigner(s, id)
	if err == nil && !ok {
		err = fmt.Errorf("entry %d names the signer %.80q, whom no entry before it has named", e.Index, id)
	}
	return row, err
}

func putSigner(s *ledger.State, row signerRow) error {
	if slices.Contains(row.Roles, RoleAdministrator) {
		if row.State == StateRevoked {
			s.Delete(bucketAdmins, []byte(row.ID))
		} else {
			s.Put(bucketAdmins, []byte(row.ID), []byte(row.State))
		}
		noteAdministrators(s)
	}
	return put(s, bucketSigners, []byte(row.ID), row)
}

func personName(name string) []byte  { return []byte("person:" + name) }
func serviceName(name string) []byte { return []byte("service:" + name) }

func indexKey(i uint64) []byte { return binary.BigEndian.AppendUint64(nil, i) }

func openKey(signer, session string) []byte { return []byte(signer + "/" + session) }

func endKey(end chain.Time, session string) []byte {
	return append(binary.BigEndian.AppendUint64(nil, uint64(end.UnixMilli())), session...)
}

// spkiOf returns the SubjectPublicKeyInfo of a certificate, or nil. It walks the DER by itself, so that a replay gives
// the same answer under every release of Go.
func spkiOf(certificate []byte) []byte {
	input := cryptobyte.String(certificate)
	var cert, tbs, spki cryptobyte.String
	if !input.ReadASN1(&cert, asn1.SEQUENCE) || !input.Empty() || !cert.ReadASN1(&tbs, asn1.SEQUENCE) ||
		!tbs.SkipOptionalASN1(asn1.Tag(0).ContextSpecific().Constructed()) || !tbs.SkipASN1(asn1.INTEGER) {
		return nil
	}
	for range 4 { // signature algorithm, issuer, validity, subject
		if !tbs.SkipASN1(asn1.SEQUENCE) {
			return nil
		}
	}
	if !tbs.ReadASN1Element(&spki, asn1.SEQUENCE) {
		return nil
	}
	return spki
}
