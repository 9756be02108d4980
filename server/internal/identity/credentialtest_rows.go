package identity

import (
	"fmt"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/passkey"
	"github.com/signetd/signet/server/internal/ledger"
)

// The buckets of the projection.
const (
	testsProjectionName = "credential-tests"

	bucketTested       = "tested"  // signer, "/", kind, and for a passkey "/" and its id → testedRow
	bucketTestOrder    = "order"   // index of the entry that shows the test, key of bucketTested → nothing
	bucketTestPasskeys = "devices" // SHA-256 of the credential id, hex → key of bucketTested
)

type testedRow struct {
	Signer     string     `json:"signer"`
	Kind       TestKind   `json:"kind"`
	Passkey    string     `json:"passkey"`
	Commitment string     `json:"commitment"` // of a password
	Last       chain.Time `json:"last"`
	Index      uint64     `json:"index"`
	Told       chain.Time `json:"told"` // zero: nobody
}

func (t testedRow) key() []byte { return testKey(t.Signer, t.Kind, t.Passkey) }

func testKey(signer string, kind TestKind, passkey string) []byte {
	key := signer + "/" + string(kind)
	if passkey != "" {
		key += "/" + passkey
	}
	return []byte(key)
}

func testOrder(row testedRow) []byte { return append(indexKey(row.Index), row.key()...) }

// TestsProjection returns when each credential was last tested, as a function of the ledger's entries.
func TestsProjection() ledger.Projection { return testsProjection{} }

type testsProjection struct{}

// Name implements ledger.Projection.
func (testsProjection) Name() string { return testsProjectionName }

// Version implements ledger.Projection.
func (testsProjection) Version() int { return 1 }

// SignatureAuthorization is the place of the authorization among the attachments of signature.created.
const SignatureAuthorization = 2

// Apply implements ledger.Projection.
func (testsProjection) Apply(s *ledger.State, e chain.Entry, _ []byte, attachments [][]byte) error {
	switch e.Type {
	case chain.SignerEnrolled, chain.SignerRenewed:
		return testedByEnrolment(s, e)
	case chain.SignerCredential:
		return testedBySetting(s, e)
	case chain.SessionOpened:
		body, err := readBody[sessionOpened](e)
		if err != nil || e.Actor.Kind != chain.Person {
			return err
		}
		return testedByProof(s, e, body.ID, manifest.AuthorizationKind(body.Method), nil)
	case chain.CredentialUsed:
		body, err := readBody[credentialUsed](e)
		if err != nil {
			return err
		}
		return testedByProof(s, e, body.ID, manifest.AuthorizationPasswordTOTP, nil)
	case chain.SignatureCreated:
		if e.Actor.Kind != chain.Person || len(attachments) <= SignatureAuthorization {
			return nil
		}
		a, err := manifest.ParseAuthorization(attachments[SignatureAuthorization])
		if err != nil {
			return fmt.Errorf("entry %d: %w", e.Index, err)
		}
		return testedByProof(s, e, e.Actor.ID, a.Kind, a.CredentialID)
	case chain.PasskeyRegistered:
		body, err := readBody[passkeyRegistered](e)
		if err != nil {
			return err
		}
		row := testedRow{Signer: body.Binding.Signer, Kind: TestedPasskey, Passkey: body.Binding.Nonce}
		s.Put(bucketTestPasskeys, credentialKey(body.Binding.CredentialID), row.key())
		return tested(s, e, row)
	case chain.PasskeyVouched:
		body, err := readBody[passkeyVouched](e)
		if err != nil {
			return err
		}
		return testedByProof(s, e, body.Voucher.Signer, manifest.AuthorizationPasskey, body.Voucher.CredentialID)
	case chain.PasskeyBound:
		body, err := passkey.ParseBound(e.Body)
		if err != nil || len(body.Vouchers) == 0 {
			return err
		}
		last := body.Vouchers[len(body.Vouchers)-1] // the others were entered when they were given
		return testedByProof(s, e, last.Signer, manifest.AuthorizationPasskey, last.CredentialID)
	case chain.PasskeyRevoked:
		body, err := passkey.ParseRevoked(e.Body)
		if err != nil {
			return fmt.Errorf("entry %d: %w", e.Index, err)
		}
		return dropTests(s, testKey(body.Signer, TestedPasskey, body.Nonce))
	case chain.SignerRevoked:
		body, err := manifest.ParseSignerRevoked(e.Body)
		if err != nil {
			return fmt.Errorf("entry %d: %w", e.Index, err)
		}
		return dropTests(s, []byte(body.ID+"/"))
	case chain.CredentialTested:
		body, err := readBody[credentialTested](e)
		if err != nil {
			return err
		}
		return again(s, e, testKey(body.ID, body.Kind, body.Passkey))
	case chain.CredentialUntested:
		body, err := readBody[credentialUntested](e)
		if err != nil {
			return err
		}
		for _, u := range body.Credentials {
			row, ok, err := getTested(s, testKey(u.ID, u.Kind, u.Passkey))
			if err != nil {
				return err
			}
			if row.Told = e.Time; ok {
				if err := put(s, bucketTested, row.key(), row); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// testedByEnrolment: the new password was held against its verifier. A renewal of the key alone tests nothing.
func testedByEnrolment(s *ledger.State, e chain.Entry) error {
	body, err := manifest.ParseSignerEnrolled(e.Body)
	if err != nil {
		return fmt.Errorf("entry %d: %w", e.Index, err)
	}
	before, ok, err := getTested(s, testKey(body.ID, TestedPassword, ""))
	if err != nil || body.Credential == "" || ok && before.Commitment == body.Credential {
		return err
	}
	return tested(s, e, testedRow{Signer: body.ID, Kind: TestedPassword, Commitment: body.Credential})
}

// testedBySetting: a password was set by its owner, or the first one-time password was right; or it was taken away.
func testedBySetting(s *ledger.State, e chain.Entry) error {
	body, err := readBody[signerCredential](e)
	if err != nil || body.ID == "" {
		return err
	}
	row := testedRow{Signer: body.ID, Kind: TestedPassword, Commitment: body.Commitment}
	switch body.Kind {
	case credentialPassword:
	case credentialTOTP:
		row = testedRow{Signer: body.ID, Kind: TestedTOTP}
	case credentialVerifier: // the same password: only how it is kept is another way
		before, ok, err := getTested(s, row.key())
		if err != nil || !ok {
			return err
		}
		before.Commitment = body.Commitment
		return put(s, bucketTested, before.key(), before)
	default:
		return fmt.Errorf("entry %d: signer.credential of the unknown kind %.40q", e.Index, body.Kind)
	}
	if body.Commitment == "" {
		return dropTests(s, row.key())
	}
	return tested(s, e, row)
}

// testedByProof: these components were right.
func testedByProof(s *ledger.State, e chain.Entry, signer string, kind manifest.AuthorizationKind, credentialID []byte) error {
	var keys [][]byte
	if kind.Covers(manifest.AuthorizationPassword) {
		keys = append(keys, testKey(signer, TestedPassword, ""))
	}
	if kind == manifest.AuthorizationPasswordTOTP {
		keys = append(keys, testKey(signer, TestedTOTP, ""))
	}
	if kind.Passkey() {
		if key := s.Get(bucketTestPasskeys, credentialKey(credentialID)); key != nil {
			keys = append(keys, key)
		}
	}
	for _, key := range keys {
		if err := again(s, e, key); err != nil {
			return err
		}
	}
	return nil
}

// again notes a test of a credential that is there.
func again(s *ledger.State, e chain.Entry, key []byte) error {
	row, ok, err := getTested(s, key)
	if err != nil || !ok {
		return err
	}
	return tested(s, e, row)
}

func tested(s *ledger.State, e chain.Entry, row testedRow) error {
	before, ok, err := getTested(s, row.key())
	if err != nil {
		return err
	}
	if ok {
		s.Delete(bucketTestOrder, testOrder(before))
	}
	row.Last, row.Index, row.Told = e.Time, e.Index, chain.Time{}
	s.Put(bucketTestOrder, testOrder(row), nil)
	return put(s, bucketTested, row.key(), row)
}

// dropTests forgets a credential, or all of a signer's.
func dropTests(s *ledger.State, prefix []byte) error {
	var rows []testedRow
	var failed error
	s.Prefix(bucketTested, prefix, func(_, v []byte) bool {
		var row testedRow
		failed = decode(bucketTested, v, &row)
		rows = append(rows, row)
		return failed == nil
	})
	if failed != nil {
		return failed
	}
	for _, row := range rows {
		s.Delete(bucketTestOrder, testOrder(row))
		s.Delete(bucketTested, row.key())
	}
	return nil
}

func getTested(s reader, key []byte) (row testedRow, ok bool, err error) {
	ok, err = get(s, bucketTested, key, &row)
	return row, ok, err
}
