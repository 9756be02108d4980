package identity

import (
	"slices"
	"time"

	"github.com/signetd/signet/api/chain"
)

// Role is what a person or service may do.
type Role string

// The roles.
const (
	RoleAdministrator   Role = "administrator"    // enrols and ends signers
	RoleSigner          Role = "signer"           // signs records for which they are designated
	RoleReleaseManager  Role = "release_manager"  // creates records
	RoleAuditor         Role = "auditor"          // reads everything
	RoleService         Role = "service"          // a program
	RoleSecurityOfficer Role = "security_officer" // hears of attacks, and acknowledges alerts
)

// personRoles are those that a person can have.
var personRoles = []Role{RoleAdministrator, RoleSigner, RoleReleaseManager, RoleAuditor, RoleSecurityOfficer}

// Kind says what a signer or caller is.
type Kind = chain.Kind

// How a caller proved themselves.
const (
	MethodPassword = "password" // a session that was opened with user name and password
	MethodTLS      = "mtls"     // a pinned client certificate
	MethodCode     = "code"     // a one-time code
)

// Caller is who makes a call.
type Caller struct {
	ID      string
	Kind    Kind
	Method  string
	Session string    // random id of the session, never its token; empty for a service
	Expires time.Time // of the session; zero without one
	Roles   []Role
	Source  string // commitment to address and device, or empty

	PasswordExpired bool   // only a change of the password is open to them
	Client          Client // of a service: what it has proved itself with
	Terms           *Terms // of a service: what it may do
}

// Actor is the caller as an entry names them.
func (c Caller) Actor() chain.Actor {
	return chain.Actor{ID: c.ID, Kind: c.Kind, Method: c.Method, Session: c.Session, Source: c.Source}
}

// Has reports whether the caller has a role.
func (c Caller) Has(r Role) bool { return slices.Contains(c.Roles, r) }

// System is a part of the server's own program, as an actor.
func System(name string) Caller { return Caller{ID: name, Kind: chain.System} }

// State is where a signer stands.
type State string

// The states.
const (
	StateInvited   State = "invited"   // the one-time code has not been redeemed
	StateActive    State = "active"    // may log in, and sign where the role allows it
	StateSuspended State = "suspended" // until reinstated
	StateRevoked   State = "revoked"   // for good
)

// Signer is a person or a service as others may see them.
type Signer struct {
	ID           string
	Index        uint64 // of the entry that first named them: the place in a list
	Service      bool
	State        State
	UserName     string // of a person; the name of a service
	Name         string // printed name
	Title        string
	Organisation string
	Zone         string // IANA
	Roles        []Role
	KeyID        string     // empty without a key
	Certificate  []byte     // DER; empty without a key
	Enrolment    chain.Hash // leaf hash of the entry that last bound name and key to the id; zero before
	Created      time.Time
	LockedUntil  time.Time     // zero: not locked
	TOTP         bool          // one-time passwords are set
	PasswordSet  time.Time     // zero: no password is set
	Rights       ServiceRights // of a service
	Clients      []string      // of a service: SHA-256 of each client certificate that is admitted
	ClientURI    string        // of a service: the URI in its certificates of the organisation's CA

	Accountability string // version of the accountability statement that the person has acknowledged
}

// Session is an open session.
type Session struct {
	ID      string
	Signer  string
	Expires time.Time
	Idle    time.Duration

	Opened          time.Time
	Method          string // an authorization kind of the manifest
	Source          Source // empty where it is not kept
	PasswordExpired bool   // it only serves to set another password
}
