package identity

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/rfc3161"
	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/server/internal/ledger"
)

// Whoever gets a key signs the accountability statement with it before anything else, when they redeem their code: the entry stands in the
// transaction of the enrolment, so there is no key without it. The signature and its time-stamp are verified before, which tests the new
// credential (21 CFR 11.300(e)). Who has no key acknowledges the statement, and the version stands in signer.enrolled.

// AccountabilityVersion names the statement that each person acknowledges; signer.enrolled holds it.
const AccountabilityVersion = "accountability-1"

// AccountabilityText is the accountability statement (21 CFR 11.10(j), 11.100(c)). A text never changes; a better one
// gets a new version.
const AccountabilityText = "I understand that my electronic signature is the legally binding equivalent of my handwritten signature. " +
	"I hold myself accountable and responsible for every action initiated under it. I will not share my password, " +
	"nor let anybody sign in my name, and I will report at once if I believe that somebody else knows it."

// Accountability is a version of the statement.
type Accountability struct {
	Version string
	Text    string
}

// currentAccountability is the statement that people acknowledge now.
var currentAccountability = Accountability{Version: AccountabilityVersion, Text: AccountabilityText}

// Stamp returns an RFC 3161 token over a signature, and the time in it.
type Stamp func(ctx context.Context, signature []byte) (token []byte, genTime time.Time, err error)

// keySigner signs with a key in the HSM, and verifies what comes back; a *keystore.Store is one.
type keySigner interface {
	Sign(ctx context.Context, id keystore.ID, public crypto.PublicKey, message []byte) ([]byte, error)
}

// maxStampDelay is how long a time-stamp may take.
const maxStampDelay = time.Minute

// accountable makes the first signature of a new key, and the event that says so.
func (d *Directory) accountable(ctx context.Context, actor chain.Actor, who manifest.SignerEnrolled, made *certified) (ledger.Event, error) {
	fail := func(err error) (ledger.Event, error) {
		return ledger.Event{}, fmt.Errorf("signing the accountability statement: %w", err)
	}
	signer, ok := d.keys.(keySigner)
	if !ok || d.cfg.Stamp == nil {
		return fail(errors.New("there is no time-stamping authority"))
	}
	zone, err := time.LoadLocation(who.Zone)
	if err != nil {
		return fail(err)
	}
	now := chain.NewTime(d.cfg.Clock())
	st, err := manifest.NewAccountability(manifest.AccountabilityPredicate{
		Certificate: who.Certificate, KeyID: who.KeyID, Letter: d.cfg.LetterReference, SignedAt: now, Statement: d.cfg.Accountability.Text,
		Version: d.cfg.Accountability.Version, Zone: manifest.Zone{Name: who.Zone, Offset: now.Time().In(zone).Format("-07:00")},
		Signer: manifest.AccountabilitySigner{
			ID: who.ID, Name: who.Name, Organisation: who.Organisation, Roles: who.Roles, Title: who.Title, UserName: who.UserName,
		},
	})
	if err != nil {
		return fail(err)
	}
	statement, err := st.Canonical()
	if err != nil {
		return fail(err)
	}
	signature, err := signer.Sign(ctx, made.key.ID, made.key.Public, manifest.PAE(statement))
	if err != nil {
		return fail(err)
	}
	token, genTime, err := d.cfg.Stamp(ctx, signature)
	if err != nil {
		return fail(err)
	}
	if genTime.Before(now.Time()) || genTime.Sub(now.Time()) > maxStampDelay {
		return fail(fmt.Errorf("its time-stamp is of %s, and it was begun at %s", genTime.UTC().Format(time.RFC3339Nano), now))
	}
	body := manifest.AccountabilitySigned{
		Certificate: who.Certificate, ID: who.ID, KeyID: who.KeyID, Letter: d.cfg.LetterReference, Signature: hexSum(signature),
		Statement: hexSum(statement), Timestamp: hexSum(token), Version: d.cfg.Accountability.Version,
	}
	attachments := [][]byte{statement, signature, token}
	if err := CheckAccountability(body, made.certificate, attachments); err != nil {
		return fail(err)
	}
	return ledger.Event{Type: chain.AccountabilitySigned, Actor: actor, Body: body, Attachments: attachments}, nil
}

// CheckAccountability verifies an entry accountability.signed with its attachments against the certificate of its signer: that the key of
// the certificate has signed this statement by this person, and that the time-stamp is about the signature. Who vouches for the certificate
// and for the time-stamp is the caller's to judge.
func CheckAccountability(body manifest.AccountabilitySigned, certificate []byte, attachments [][]byte) error {
	if len(attachments) != 3 {
		return fmt.Errorf("%w: accountability.signed has %d attachments", ErrTampered, len(attachments))
	}
	statement, signature, token := attachments[0], attachments[1], attachments[2]
	if hexSum(statement) != body.Statement || hexSum(signature) != body.Signature || hexSum(token) != body.Timestamp || hexSum(certificate) != body.Certificate {
		return fmt.Errorf("%w: what stands beside accountability.signed is not what it names", ErrTampered)
	}
	st, err := manifest.ParseAccountability(statement)
	if err != nil {
		return err
	}
	if p := st.Predicate; p.Signer.ID != body.ID || p.KeyID != body.KeyID || p.Certificate != body.Certificate || p.Version != body.Version || p.Letter != body.Letter {
		return fmt.Errorf("%w: the accountability statement is not the one that accountability.signed names", ErrTampered)
	}
	leaf, err := x509.ParseCertificate(certificate)
	if err != nil {
		return err
	}
	algorithm, err := keystore.AlgorithmOf(leaf.PublicKey)
	if err != nil {
		return err
	}
	if keystore.KeyID(leaf.PublicKey) != body.KeyID {
		return fmt.Errorf("%w: the certificate is for another key", ErrTampered)
	}
	if err := keystore.Verify(algorithm, leaf.PublicKey, manifest.PAE(statement), signature); err != nil {
		return err
	}
	t, err := rfc3161.Parse(token)
	if err != nil {
		return err
	}
	if imprint := sha256.Sum256(signature); t.Hash != crypto.SHA256 || string(t.Imprint) != string(imprint[:]) {
		return fmt.Errorf("%w: the time-stamp is about something else", ErrTampered)
	}
	return nil
}

func applyAccountability(s *ledger.State, e chain.Entry) error {
	body, err := manifest.ParseAccountabilitySigned(e.Body)
	if err != nil {
		return fmt.Errorf("entry %d: %w", e.Index, err)
	}
	row, err := mustSigner(s, e, body.ID)
	if err != nil {
		return err
	}
	row.Accountable = e.Index
	return putSigner(s, row)
}

// accountabilityOf refuses who has not signed the statement that their enrolment names: the entry is proved, once for each process.
func (d *Directory) accountabilityOf(r Reader, row signerRow, e *enrolment) error {
	if row.Accountable == 0 {
		return fmt.Errorf("%w: %s", ErrNotAccountable, row.ID)
	}
	if known, ok := d.accounts.Load(row.Accountable); ok && known == accountKey(row.ID, e.accountability) {
		return nil
	}
	b, err := r.ProvedEntry(row.Accountable)
	if err != nil {
		return err
	}
	entry, err := chain.ParseEntry(b)
	if err != nil {
		return err
	}
	body, err := manifest.ParseAccountabilitySigned(entry.Body)
	if err != nil {
		return err
	}
	if entry.Type != chain.AccountabilitySigned || body.ID != row.ID || body.Version != e.accountability {
		return errTamperedRow(row.Accountable)
	}
	d.accounts.Store(row.Accountable, accountKey(row.ID, body.Version))
	return nil
}

func accountKey(id, version string) string { return id + " " + version }

// noteConfiguration puts into the ledger what of the configuration has changed since the last start: whether there are four eyes, and the
// reference of the organisation's letter to the agency (21 CFR 11.100(c)).
func (d *Directory) noteConfiguration(ctx context.Context) error {
	_, err := d.ledger.Do(ctx, func(tx *ledger.Tx) error {
		view := tx.View(projectionName)
		for _, f := range []struct{ field, now, first string }{
			{metaMode, string(d.cfg.FourEyes), string(FourEyesAuto)}, {metaLetter, d.cfg.LetterReference, ""},
		} {
			old := f.first
			if kept := view.Get(bucketMeta, []byte(f.field)); kept != nil {
				old = string(kept)
			}
			if old != f.now {
				tx.Emit(ledger.Event{Type: chain.SignerChanged, Actor: System("configuration").Actor(), Body: signerValues{
					Changes: []valueChange{{Field: f.field, New: f.now, Old: old}}, Reason: "identity." + f.field + " of the configuration",
				}})
			}
		}
		return nil
	})
	return err
}

// What bucketMeta keeps of the configuration, and the fields in signer.changed.
const (
	metaLetter = "letterReference"
	metaMode   = "fourEyes"
)

// applyAltered reads signer.changed for what is kept here: of the organisation.
func applyAltered(s *ledger.State, e chain.Entry) error {
	body, err := readBody[signerValues](e)
	if err != nil {
		return err
	}
	for _, c := range body.Changes {
		if body.ID == "" && (c.Field == metaLetter || c.Field == metaMode) {
			s.Put(bucketMeta, []byte(c.Field), []byte(c.New))
		}
	}
	return nil
}
