package identity

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json/v2"
	"fmt"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/jcs"
)

// Bodies of the entries that this package appends. Those of signer.enrolled, signer.renewed, service.enrolled,
// signer.revoked and service.revoked stand in api/manifest, because verifiers read them.

// Proofing says how a person's identity was verified before their signature was established (21 CFR 11.100(b)).
type Proofing struct {
	Method    string `json:"method"`
	Reference string `json:"reference"`
}

// proofingRecord is what the entry keeps, and whose SHA-256 signer.enrolled names. The salt keeps a manifest, which
// holds that digest, from giving away a text that can be guessed.
type proofingRecord struct {
	Method    string `json:"method"`
	Reference string `json:"reference"`
	Salt      string `json:"salt"` // 32 hex digits, random
}

func (p proofingRecord) digest() (string, error) {
	b, err := jcs.Marshal(p)
	if err != nil {
		return "", err
	}
	return hexSum(b), nil
}

// signerInvited: a person may redeem a one-time code. For a person that is there already it is a renewal.
type signerInvited struct {
	Code         string         `json:"code"` // SHA-256 of the one-time code, which is random
	Expires      chain.Time     `json:"expires"`
	ID           string         `json:"id"`
	Login        string         `json:"login"` // the user name, blinded: where failures are counted
	Name         string         `json:"name"`
	Organisation string         `json:"organisation"`
	Proofing     proofingRecord `json:"proofing"`
	Reason       string         `json:"reason"`    // why, for a renewal
	RevokeNow    bool           `json:"revokeNow"` // signer.credential follows, where there is one
	Roles        []string       `json:"roles"`
	Title        string         `json:"title"`
	UserName     string         `json:"userName"`
	Zone         string         `json:"zone"`
}

// signerCredential: a credential was set, changed or removed. First passwords, and those of a new code, are set by signer.enrolled and
// signer.renewed.
type signerCredential struct {
	Commitment string `json:"commitment"` // empty: removed
	ID         string `json:"id"`         // empty: it is the service's own
	Kind       string `json:"kind"`       // credentialPassword, credentialNames, credentialVerifier, credentialTOTP
	Reason     string `json:"reason"`
	Short      bool   `json:"short"` // a password that is long enough with a second factor only
}

const (
	credentialPassword = "password"
	credentialNames    = "user-names" // the key that blinds user names
)

// signerChanged is the body of signer.suspended and signer.reinstated.
type signerChanged struct {
	From   State  `json:"from"`
	ID     string `json:"id"`
	Reason string `json:"reason"`
	To     State  `json:"to"`
}

// signerValues is the body of signer.changed: what is known of a signer, or of the organisation, was one thing and is another now.
type signerValues struct {
	Cause   string        `json:"cause"` // of a revocation: a [RevocationCause]; else empty
	Changes []valueChange `json:"changes"`
	ID      string        `json:"id"` // of the signer; empty: of the organisation
	Reason  string        `json:"reason"`
}

// valueChange is one value that was changed.
type valueChange struct {
	Field string `json:"field"`
	New   string `json:"new"`
	Old   string `json:"old"`
}

// sessionOpened: somebody logged in, or a service called for the first time from a place.
type sessionOpened struct {
	Client  string     `json:"client"`  // SHA-256 of the service's client certificate; empty for a person
	Expires chain.Time `json:"expires"` // zero for a service
	ID      string     `json:"id"`      // of the signer
	Method  string     `json:"method"`  // an authorization kind of the manifest; empty for a service
	Place   string     `json:"place"`   // the network that they came from, blinded; empty: not known, or a service
	Session string     `json:"session"`
	Token   string     `json:"token"` // SHA-256 of the bearer token, which is random; empty for a service
	URI     string     `json:"uri"`   // that the certificate names, where the organisation's CA vouches for it
}

// sessionClosed: a session ended.
type sessionClosed struct {
	Cause   string `json:"cause"`
	ID      string `json:"id"`
	Reason  string `json:"reason"` // where somebody has ended it; may be empty
	Session string `json:"session"`
}

// Why a session was closed.
const (
	closedByCaller  = "closed"
	closedEnded     = "ended" // from another session, or by an administrator
	closedIdle      = "idle"
	closedLapsed    = "lapsed"
	closedMoved     = "moved"   // used from another address or device
	closedRestarted = "restart" // the process that opened it is gone
)

// authenticationFailed: a credential did not fit.
type authenticationFailed struct {
	Counter   string  `json:"counter"`           // the blinded name, or the pinned client certificate, whose failures are counted; empty: none
	Failures  int     `json:"failures"`          // in a row, this one included: of the name from that network, or in the session
	ID        string  `json:"id"`                // whose name was given, if it is anybody's
	Known     bool    `json:"known"`             // somebody has logged in from that network
	Name      string  `json:"name"`              // the name that was given, blinded
	OfAll     int     `json:"failuresInAll"`     // of late, whoever and wherever; 0: not counted
	OfName    int     `json:"failuresOfName"`    // from all networks that are as known as this one; 0: not counted
	OfNetwork int     `json:"failuresAtNetwork"` // of late, whatever the name; 0: not counted
	Place     string  `json:"place"`             // the network that it came from, blinded; empty: not known
	Purpose   Purpose `json:"purpose"`
	Subject   string  `json:"subject"` // the preparation that was to be signed, the key that was to be changed, the client certificate
}

// Purpose says what a proof was for.
type Purpose string

// What a proof was for.
const (
	purposeSession   Purpose = "session"
	purposeSignature Purpose = "signature"
	purposeCode      Purpose = "code"
	purposeService   Purpose = "service"

	purposePassword Purpose = "password" // a change of one's own password
	purposeTest     Purpose = "test"     // of a passkey

	PurposeKey        Purpose = "key"        // a change of a key
	PurposeCredential Purpose = "credential" // a change of one's own credential
	PurposeProposal   Purpose = "proposal"   // the confirmation of a proposal
)

// signerLocked: too many failures in a row.
type signerLocked struct {
	Certificate string      `json:"certificate"` // SHA-256 of the client certificate that is refused; empty: none is
	Counter     string      `json:"counter"`     // the blinded name; empty for a certificate
	Failures    int         `json:"failures"`
	ID          string      `json:"id"`    // empty where the name is nobody's
	Place       string      `json:"place"` // the network from which they came, or the last of them, blinded
	Scope       counterKind `json:"scope"`
	Session     string      `json:"session"` // the session that is locked; empty: none is
	Until       chain.Time  `json:"until"`
}

// sourceLocked: too many failures from one network, or in all.
type sourceLocked struct {
	Failures int         `json:"failures"`
	Place    string      `json:"place"` // blinded; empty: all that are not known
	Scope    counterKind `json:"scope"`
	Until    chain.Time  `json:"until"`
}

// sourceUnlocked: an administrator has ended the lock of a network before its time.
type sourceUnlocked struct {
	Place  string `json:"place"` // blinded
	Reason string `json:"reason"`
}

// signerUnlocked: a lock ended before its time, because the credential is a new one or an administrator says so.
type signerUnlocked struct {
	Counter string `json:"counter"`
	ID      string `json:"id"`
	Reason  string `json:"reason"`
}

// accessDenied: a call was refused.
type accessDenied struct {
	Count  int    `json:"count"` // how many refusals it stands for: of one kind, since the entry before it
	Method string `json:"method"`
	Reason string `json:"reason"`
}

// keyCreated is the body of key.created: what the HSM says of a key that it has just made. The SPKI is attached.
type keyCreated struct {
	Algorithm  string            `json:"algorithm"`
	Attributes map[string]string `json:"attributes"`
	ID         string            `json:"id"`
	KeyID      string            `json:"keyId"`
	Role       string            `json:"role"`
}

// readBody reads a body of this package.
func readBody[T any](e chain.Entry) (T, error) {
	var v T
	if err := json.Unmarshal(e.Body, &v, json.RejectUnknownMembers(true)); err != nil {
		return v, fmt.Errorf("entry %d, %s: %w", e.Index, e.Type, err)
	}
	return v, nil
}

func hexSum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// enrolledRoles returns roles as bodies have them.
func enrolledRoles(roles []Role) []string {
	out := make([]string, len(roles))
	for i, r := range roles {
		out[i] = string(r)
	}
	return out
}

func rolesOf(names []string) []Role {
	out := make([]Role, len(names))
	for i, n := range names {
		out[i] = Role(n)
	}
	return out
}
