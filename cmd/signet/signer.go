package main

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/clients/go/signet"
)

// signerOut is a signer.
type signerOut struct {
	ID           string   `json:"id" doc:"identifier, sgn_… for a person, svc_… for a service"`
	Kind         string   `json:"kind" doc:"person or service"`
	State        string   `json:"state" doc:"invited, active, suspended or revoked"`
	UserName     string   `json:"userName" doc:"user name; empty for a service"`
	PrintedName  string   `json:"printedName" doc:"printed name, or name of the service"`
	Title        string   `json:"title" doc:"title"`
	Organisation string   `json:"organisation" doc:"organisation"`
	TimeZone     string   `json:"timeZone" doc:"IANA time zone"`
	Roles        []string `json:"roles" doc:"administrator, signer, release_manager, auditor, service"`
	KeyID        string   `json:"keyId" doc:"SHA-256 of the key's SubjectPublicKeyInfo; empty without a key"`
	Lapses       string   `json:"certificateExpireTime" doc:"when the certificate lapses; empty without one"`
	Enrolment    string   `json:"enrolment" doc:"leaf hash of the ledger entry that last bound name and key to the id"`
	CreateTime   string   `json:"createTime" doc:"when the signer was enrolled"`
	LockedUntil  string   `json:"lockedUntil" doc:"until when wrong passwords have locked them out; empty: not locked"`

	Accountability string `json:"accountability" doc:"version of the accountability statement that the person has acknowledged; who has a key has signed it"`
}

func newSignerOut(s *signetv1.Signer) signerOut {
	o := signerOut{
		ID: strings.TrimPrefix(s.GetName(), "signers/"), Kind: signerKindWord(s.GetKind()), State: signerStateWord(s.GetState()), UserName: s.GetUserName(),
		PrintedName: s.GetPrintedName(), Title: s.GetTitle(), Organisation: s.GetOrganisation(), TimeZone: s.GetTimeZone(), Roles: []string{},
		KeyID: s.GetKeyId(), Enrolment: hex.EncodeToString(s.GetEnrollment()), Accountability: s.GetAccountability(),
	}
	for _, r := range s.GetRoles() {
		o.Roles = append(o.Roles, roleWord(r))
	}
	if c, err := x509.ParseCertificate(s.GetCertificate()); err == nil {
		o.Lapses = stamp(c.NotAfter)
	}
	if s.GetCreateTime() != nil {
		o.CreateTime = stamp(s.GetCreateTime().AsTime())
	}
	if s.GetLockedUntil() != nil {
		o.LockedUntil = stamp(s.GetLockedUntil().AsTime())
	}
	return o
}

// showSigner prints one signer.
func (a *app) showSigner(s *signetv1.Signer) error {
	o := newSignerOut(s)
	return a.print(o, func(p *printer) { p.signer(o) })
}

func (p *printer) signer(o signerOut) {
	p.details(
		pair{"Signer", o.ID}, pair{"Name", o.PrintedName}, pair{"Title", o.Title}, pair{"Organisation", o.Organisation}, pair{"User name", o.UserName},
		pair{"Kind", o.Kind}, pair{"State", o.State}, pair{"Roles", join(o.Roles)}, pair{"Time zone", o.TimeZone}, pair{"Key", o.KeyID}, pair{"Certificate until", whenStamp(o.Lapses)},
		pair{"Enrolled", whenStamp(o.CreateTime)}, pair{"Enrolment entry", o.Enrolment}, pair{"Accountability", o.Accountability}, pair{"Locked until", whenStamp(o.LockedUntil)},
	)
}

// whenStamp shows a JSON time to people.
func whenStamp(s string) string {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return s
	}
	return when(t)
}

func (a *app) signerCommand() *cobra.Command {
	return group("signer", "Enrol signers, and end their rights",
		"  signet signer list\n  signet signer enroll --user ada --name \"Ada Lovelace\" --zone Europe/London --role signer --proofing-method \"passport seen in person\" --proofing-reference HR-17",
		a.signerEnroll(), a.signerRedeem(), a.signerList(), a.signerGet(),
		a.signerChange("suspend", "Suspend a signer: no session, no signature, until reinstated", "on leave", (*signet.Client).SuspendSigner),
		a.signerReinstate(),
		a.signerChange("unlock", "End a lock before its time: wrong passwords have locked a name", "called back: she had mistyped it", (*signet.Client).UnlockSigner),
		a.signerUnlockNetwork(), a.signerContact(), a.signerRevoke(), a.signerRenew(),
	)
}

// invitationOut is a signer with the one-time code.
type invitationOut struct {
	Signer     signerOut `json:"signer" doc:"the signer"`
	Code       string    `json:"code" doc:"one-time code, shown once; empty for a service, and where --code-out took it"`
	ExpireTime string    `json:"codeExpireTime" doc:"when the code lapses; empty for the first half of one: its time begins when it is confirmed"`
	Proposal   string    `json:"proposal" doc:"id of the proposal, where it waits for a second administrator: then the code is the first half of it, and signer is empty"`
}

// invited is what the server answers to an enrolment or a renewal.
type invited interface {
	GetSigner() *signetv1.Signer
	GetEnrollmentCode() string
	GetCodeExpireTime() *timestamppb.Timestamp
	GetProposal() *signetv1.Proposal
}

// invitation hands over a one-time code: into a file, or to standard output.
func (a *app) invitation(answer invited, file string) error {
	if answer.GetProposal() != nil {
		return a.firstHalf(answer, file)
	}
	code, expires := answer.GetEnrollmentCode(), answer.GetCodeExpireTime().AsTime()
	o := invitationOut{Signer: newSignerOut(answer.GetSigner()), Code: code, ExpireTime: stamp(expires)}
	if file != "" {
		if err := createFile(file, []byte(code+"\n"), 0o600); err != nil {
			return withNext(err, "the code is lost; issue another: signet signer renew %s", o.Signer.ID)
		}
		o.Code = ""
	}
	return a.print(o, func(p *printer) {
		p.signer(o.Signer)
		p.line("")
		if file != "" {
			p.line("The one-time code is in %s.", file)
		} else {
			p.line("One-time code: %s", p.bold(clean(code)))
		}
		p.line("It lapses %s and works once. Hand it to %s in person; they set their own password with:", when(expires), clean(o.Signer.PrintedName))
		p.line("  signet signer redeem --user %s", clean(o.Signer.UserName))
	})
}

// firstHalf hands over the first half of a one-time code.
func (a *app) firstHalf(answer invited, file string) error {
	o := invitationOut{Signer: signerOut{Roles: []string{}}, Code: answer.GetEnrollmentCode(), Proposal: proposalOf(answer.GetProposal())}
	code := o.Code
	if file != "" {
		if err := createFile(file, []byte(code+"\n"), 0o600); err != nil {
			return withNext(err, "this half of the code is lost; withdraw the proposal, and propose it anew: signet proposal withdraw %s", o.Proposal)
		}
		o.Code = ""
	}
	return a.print(o, func(p *printer) {
		p.proposed(answer.GetProposal())
		if file != "" {
			p.line("\nThe first half of the one-time code is in %s.", file)
		} else {
			p.line("\nFirst half of the one-time code: %s", p.bold(clean(code)))
		}
		p.line("Whoever confirms gets the second half. Each of you hands over their own half in person; the person types one after the other.")
	})
}

func (a *app) signerReinstate() *cobra.Command {
	type out struct {
		signerOut
		Proposal string `json:"proposal" doc:"id of the proposal, where the change waits for a second administrator; else empty"`
	}
	var reason string
	cmd := documented(&cobra.Command{
		Use: "reinstate SIGNER", Short: "End a suspension", Args: exactArgs("SIGNER"),
		Example: "  signet signer reinstate ada --reason \"back from leave\"",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := required(cmd, "reason"); err != nil {
				return err
			}
			return a.online(cmd.Context(), func(ctx context.Context, client *signet.Client, _ selected) error {
				name, err := findSigner(ctx, client, args[0])
				if err != nil {
					return err
				}
				answer, err := client.ReinstateSigner(ctx, name, reason)
				if err != nil {
					return err
				}
				o := out{signerOut: newSignerOut(answer.GetSigner()), Proposal: proposalOf(answer.GetProposal())}
				return a.print(o, func(p *printer) {
					if answer.GetProposal() != nil {
						p.proposed(answer.GetProposal())
						return
					}
					p.signer(o.signerOut)
				})
			})
		},
	}, out{})
	cmd.Flags().StringVar(&reason, "reason", "", "why; it is recorded")
	return cmd
}

func (a *app) signerEnroll() *cobra.Command {
	var person signetv1.EnrollPerson
	var service, certificate, codeOut string
	var roles []string
	proofing := &signetv1.IdentityProofing{}
	cmd := documented(&cobra.Command{
		Use: "enroll", Short: "Enrol a person, or a service", Args: cobra.NoArgs,
		Long: `Enrol a person, or a service.

A person gets a one-time code with which they set their own password; nobody else ever knows it. How their identity was proved is
recorded (21 CFR 11.100(b)). A service is enrolled at once, by the client certificate with which it calls.`,
		Example: `  signet signer enroll --user ada --name "Ada Lovelace" --title "QA Lead" --zone Europe/London --role signer \
    --proofing-method "passport seen in person" --proofing-reference HR-17
  signet signer enroll --user max --name "Max Miller" --zone Europe/Berlin --role release_manager --role auditor \
    --proofing-method "identity card seen in person" --proofing-reference HR-18 --code-out max.code
  signet signer enroll --service ci --certificate ci.pem`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if service != "" {
				if certificate == "" {
					return usagef("a service needs --certificate FILE")
				}
				return a.enrollService(cmd.Context(), &signetv1.EnrollService{ServiceName: service, Organisation: person.Organisation}, certificate)
			}
			for _, r := range roles {
				role, err := parseRole(r)
				if err != nil {
					return err
				}
				person.Roles = append(person.Roles, role)
			}
			if err := required(cmd, "user", "name", "zone", "role", "proofing-method", "proofing-reference"); err != nil {
				return err
			}
			person.Proofing = proofing
			return a.online(cmd.Context(), func(ctx context.Context, client *signet.Client, _ selected) error {
				answer, err := client.EnrollPerson(ctx, &person)
				if err != nil {
					return err
				}
				return a.invitation(answer, codeOut)
			})
		},
	}, invitationOut{})
	f := cmd.Flags()
	f.StringVar(&person.UserName, "user", "", "user name: lower-case letters, digits, dots, dashes; never used again")
	f.StringVar(&person.PrintedName, "name", "", "printed name as in the identity document")
	f.StringVar(&person.Title, "title", "", "title, for example \"QA Lead\"")
	f.StringVar(&person.Organisation, "organisation", "", "organisation (default the server's)")
	f.StringVar(&person.TimeZone, "zone", "", "IANA time zone, for example Europe/Berlin")
	f.StringArrayVar(&roles, "role", nil, "role, repeatable: administrator, signer, release_manager, auditor")
	f.StringVar(&proofing.Method, "proofing-method", "", "how the identity was proved, for example \"passport seen in person\"")
	f.StringVar(&proofing.Reference, "proofing-reference", "", "reference of the document or case; no copy of it")
	f.StringVar(&codeOut, "code-out", "", "write the one-time code to this new file, readable by you alone, instead of printing it")
	f.StringVar(&service, "service", "", "enrol a service of this name instead of a person")
	f.StringVar(&certificate, "certificate", "", "client certificate of the service, PEM or DER")
	suggests(cmd, "role", roleWords()...)
	return cmd
}

// required says which of the flags that must be given are missing.
func required(cmd *cobra.Command, names ...string) error {
	var missing []string
	for _, n := range names {
		if !cmd.Flags().Changed(n) {
			missing = append(missing, "--"+n)
		}
	}
	if len(missing) > 0 {
		return &exitError{code: exitUsage, err: errMissing(missing), next: cmd.CommandPath() + " --help shows an example"}
	}
	return nil
}

type errMissing []string

func (m errMissing) Error() string { return "missing: " + strings.Join(m, ", ") }

func (a *app) signerRedeem() *cobra.Command {
	type out struct {
		Signer         signerOut `json:"signer" doc:"the signer"`
		Accountability string    `json:"accountabilityStatement" doc:"the statement that was acknowledged"`
	}
	var user string
	var accept bool
	code, password := &secretInput{}, &secretInput{}
	cmd := documented(&cobra.Command{
		Use: "redeem", Short: "Take up an enrolment: set your own password with a one-time code", Args: cobra.NoArgs,
		Long: `Take up an enrolment: set your own password with a one-time code.

The code comes from whoever enrolled you. Your signing key is then made in the hardware security module and certified for your name.
Needs no session. You acknowledge this statement (21 CFR 11.10(j)):

` + accountability,
		Example: `  signet signer redeem --user ada
  signet signer redeem --user ada --code-file ada.code --password-fd 3 --accept-accountability 3< password.txt`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if user == "" {
				return required(cmd, "user")
			}
			return a.redeem(cmd.Context(), user, code, password, accept, func(answer *signetv1.RedeemEnrollmentResponse) error {
				o := out{Signer: newSignerOut(answer.GetSigner()), Accountability: answer.GetAccountabilityStatement()}
				return a.print(o, func(p *printer) {
					p.signer(o.Signer)
					p.line("\nYou have acknowledged: %s", cleanText(o.Accountability))
					p.line("Log in with: signet login --user %s", clean(o.Signer.UserName))
				})
			})
		},
	}, out{})
	f := cmd.Flags()
	f.StringVar(&user, "user", "", "your user name")
	f.BoolVar(&accept, "accept-accountability", false, "acknowledge accountability without being asked (where there is no terminal)")
	code.flags(cmd, "code", "the one-time code")
	password.flags(cmd, "password", "the new password")
	return cmd
}

// accountability is what a person acknowledges (21 CFR 11.10(j), 11.100(c)): version 1, as the server records it.
const accountability = "I understand that my electronic signature is the legally binding equivalent of my handwritten signature. " +
	"I hold myself accountable and responsible for every action initiated under it. I will not share my password, " +
	"nor let anybody sign in my name, and I will report at once if I believe that somebody else knows it."

func (a *app) redeem(ctx context.Context, user string, code, password *secretInput, accept bool, show func(*signetv1.RedeemEnrollmentResponse) error) error {
	s, err := a.profile()
	if err != nil {
		return err
	}
	client, err := a.dial(s, nil)
	if err != nil {
		return err
	}
	defer hangUp(client)
	secret, err := a.readSecret(ctx, code, "One-time code: ", false)
	if err != nil {
		return err
	}
	if !accept {
		if !a.interactive() {
			return usagef("there is no terminal to ask: give --accept-accountability to acknowledge that you are accountable for what is done under your signature")
		}
		a.notice("%s", accountability)
		if err := a.confirm(ctx, "Type \"yes\" to acknowledge: ", "yes"); err != nil {
			return err
		}
	}
	chosen, err := a.readSecret(ctx, password, "New password: ", true)
	if err != nil {
		return err
	}
	answer, err := client.RedeemEnrollment(ctx, secret, signet.Password{UserName: user, Password: chosen}, true)
	if err != nil {
		return err
	}
	if said := answer.GetAccountabilityStatement(); said != accountability {
		a.notice("%s\n  %s\n", a.printer(a.stderr).warn("The server has recorded another accountability statement than the one above; if it is not yours, tell an administrator at once:"), cleanText(said))
	}
	if _, known := s.config.Profiles[s.name]; !known { // so that the next command knows the server
		if err := s.keep(false); err != nil {
			return err
		}
	}
	return show(answer)
}

func (a *app) signerList() *cobra.Command {
	type out struct {
		Signers []signerOut `json:"signers" doc:"in the order of their enrolment"`
	}
	var within string
	cmd := documented(&cobra.Command{
		Use: "list", Short: "List signers", Args: cobra.NoArgs,
		Long: `List signers.

With --lapsing, only those who can sign and whose certificates have lapsed or lapse within 60 days, or within --lapsing=30d: an administrator
renews them with signet signer renew.`,
		Example: "  signet signer list\n  signet signer list --lapsing\n  signet signer list --lapsing=7d --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			ahead, err := days(within)
			if err != nil {
				return err
			}
			return a.online(cmd.Context(), func(ctx context.Context, client *signet.Client, _ selected) error {
				o := out{Signers: []signerOut{}}
				for s, err := range client.Signers(ctx) {
					if err != nil {
						return err
					}
					if one := newSignerOut(s); within == "" || s.GetState() == signetv1.SignerState_SIGNER_STATE_ACTIVE && one.lapsesBefore(time.Now().Add(ahead)) {
						o.Signers = append(o.Signers, one)
					}
				}
				return a.print(o, func(p *printer) {
					rows := make([][]string, len(o.Signers))
					for i, s := range o.Signers {
						if within != "" {
							rows[i] = []string{s.ID, s.UserName, s.PrintedName, s.State, whenStamp(s.Lapses)}
							continue
						}
						rows[i] = []string{s.ID, s.UserName, s.PrintedName, s.Title, s.State, join(s.Roles), whenStamp(s.CreateTime)}
					}
					if within != "" {
						p.table([]string{"SIGNER", "USER", "NAME", "STATE", "CERTIFICATE UNTIL"}, rows)
						return
					}
					p.table([]string{"SIGNER", "USER", "NAME", "TITLE", "STATE", "ROLES", "ENROLLED"}, rows)
				})
			})
		},
	}, out{})
	cmd.Flags().StringVar(&within, "lapsing", "", "only those whose certificates have lapsed, or lapse so soon: 60d, 30d, 12h")
	cmd.Flags().Lookup("lapsing").NoOptDefVal = "60d"
	return cmd
}

// lapsesBefore reports whether there is a certificate that does not hold any more at a time.
func (o signerOut) lapsesBefore(at time.Time) bool {
	end, err := time.Parse(time.RFC3339, o.Lapses)
	return err == nil && !end.After(at)
}

// days reads a duration, which may be in days.
func days(s string) (time.Duration, error) {
	if s == "" {
		return 0, nil
	}
	if n, found := strings.CutSuffix(s, "d"); found {
		if v, err := strconv.ParseUint(n, 10, 16); err == nil {
			return time.Duration(v) * 24 * time.Hour, nil
		}
	}
	v, err := time.ParseDuration(s)
	if err != nil || v < 0 {
		return 0, usagef("--lapsing %q: use days or hours, such as 60d or 12h", s)
	}
	return v, nil
}

func (a *app) signerGet() *cobra.Command {
	return documented(&cobra.Command{
		Use: "get SIGNER", Short: "Show one signer, by id or user name", Args: exactArgs("SIGNER"),
		Example: "  signet signer get ada\n  signet signer get sgn_01h8xk2m --json",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.online(cmd.Context(), func(ctx context.Context, client *signet.Client, _ selected) error {
				name, err := findSigner(ctx, client, args[0])
				if err != nil {
					return err
				}
				s, err := client.GetSigner(ctx, name)
				if err != nil {
					return err
				}
				return a.showSigner(s)
			})
		},
	}, signerOut{})
}

// signerID is the id of a signer, with or without its collection.
var signerID = regexp.MustCompile(`^(?:signers/)?((?:sgn|svc)_[0-9a-z_]{1,64})$`)

// findSigner is the resource name of a signer given by id or by user name.
func findSigner(ctx context.Context, client *signet.Client, who string) (string, error) {
	if m := signerID.FindStringSubmatch(who); m != nil {
		return "signers/" + m[1], nil
	}
	for s, err := range client.Signers(ctx) {
		if err != nil {
			return "", err
		}
		if strings.EqualFold(s.GetUserName(), who) {
			return s.GetName(), nil
		}
	}
	return "", withNext(usagef("nobody has the user name %q", who), "signet signer list shows the signers")
}

// signerChange is a command that changes a signer's state for a reason.
func (a *app) signerChange(verb, short, why string, change func(c *signet.Client, ctx context.Context, name, reason string) (*signetv1.Signer, error)) *cobra.Command {
	var reason string
	cmd := documented(&cobra.Command{
		Use: verb + " SIGNER", Short: short, Args: exactArgs("SIGNER"),
		Example: "  signet signer " + verb + " ada --reason \"" + why + "\"",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := required(cmd, "reason"); err != nil {
				return err
			}
			return a.online(cmd.Context(), func(ctx context.Context, client *signet.Client, _ selected) error {
				name, err := findSigner(ctx, client, args[0])
				if err != nil {
					return err
				}
				s, err := change(client, ctx, name, reason)
				if err != nil {
					return err
				}
				return a.showSigner(s)
			})
		},
	}, signerOut{})
	cmd.Flags().StringVar(&reason, "reason", "", "why; it is recorded")
	return cmd
}

// networkOut is a network that is admitted again.
type networkOut struct {
	Network string `json:"network" doc:"the network: an IPv4 address, or a /64 of IPv6"`
}

func (a *app) signerUnlockNetwork() *cobra.Command {
	var reason string
	cmd := documented(&cobra.Command{
		Use: "unlock-network ADDRESS", Short: "End the lock of a network before its time: too many wrong passwords have come from it", Args: exactArgs("ADDRESS"),
		Example: "  signet signer unlock-network 192.0.2.7 --reason \"a script with an old password, stopped\"",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := required(cmd, "reason"); err != nil {
				return err
			}
			return a.online(cmd.Context(), func(ctx context.Context, client *signet.Client, _ selected) error {
				network, err := client.UnlockNetwork(ctx, args[0], reason)
				if err != nil {
					return err
				}
				return a.print(networkOut{network}, func(p *printer) { p.line("%s is admitted again.", clean(network)) })
			})
		},
	}, networkOut{})
	cmd.Flags().StringVar(&reason, "reason", "", "why; it is recorded")
	return cmd
}

var causes = map[string]signetv1.RevocationCause{
	"other": signetv1.RevocationCause_REVOCATION_CAUSE_UNSPECIFIED, "left": signetv1.RevocationCause_REVOCATION_CAUSE_LEFT,
	"lost": signetv1.RevocationCause_REVOCATION_CAUSE_LOST, "misused": signetv1.RevocationCause_REVOCATION_CAUSE_MISUSED,
}

func (a *app) signerRevoke() *cobra.Command {
	var cause string
	var yes bool
	cmd := a.signerChange("revoke", "Revoke a signer and their key for good", "left the company", func(c *signet.Client, ctx context.Context, name, reason string) (*signetv1.Signer, error) {
		return c.RevokeSigner(ctx, name, reason, causes[cause])
	})
	cmd.Flags().StringVar(&cause, "cause", "other", "what has happened: left, lost, misused or other")
	suggests(cmd, "cause", "left", "lost", "misused", "other")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	revoke := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := required(cmd, "reason"); err != nil {
			return err
		}
		if _, known := causes[cause]; !known {
			return usagef("--cause %q: use left, lost, misused or other", cause)
		}
		if !yes {
			if !a.interactive() {
				return usagef("there is no terminal to ask: give --yes to revoke %s for good", args[0])
			}
			a.notice("Revoking %s ends their rights and their key for good; earlier signatures stand.", clean(args[0]))
			if err := a.confirm(cmd.Context(), "Type "+clean(args[0])+" to confirm: ", args[0]); err != nil {
				return err
			}
		}
		return revoke(cmd, args)
	}
	return cmd
}

func (a *app) signerRenew() *cobra.Command {
	r := &signetv1.RenewSignerRequest{Proofing: &signetv1.IdentityProofing{}}
	var codeOut string
	cmd := documented(&cobra.Command{
		Use: "renew SIGNER", Short: "Issue a new one-time code: for a lost password, a lapsing certificate, a change of name", Args: exactArgs("SIGNER"),
		Example: `  signet signer renew ada --reason "password lost" --revoke-now \
    --proofing-method "passport seen in person" --proofing-reference HR-17
  signet signer renew ada --reason "change of name" --name "Ada King" --proofing-method "passport seen in person" --proofing-reference HR-17`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := required(cmd, "reason", "proofing-method", "proofing-reference"); err != nil {
				return err
			}
			return a.online(cmd.Context(), func(ctx context.Context, client *signet.Client, _ selected) (err error) {
				if r.Name, err = findSigner(ctx, client, args[0]); err != nil {
					return err
				}
				answer, err := client.RenewSigner(ctx, r)
				if err != nil {
					return err
				}
				return a.invitation(answer, codeOut)
			})
		},
	}, invitationOut{})
	f := cmd.Flags()
	f.StringVar(&r.Reason, "reason", "", "why; it is recorded")
	f.StringVar(&r.Proofing.Method, "proofing-method", "", "how the identity was proved again")
	f.StringVar(&r.Proofing.Reference, "proofing-reference", "", "reference of the document or case")
	f.StringVar(&r.PrintedName, "name", "", "new printed name (default unchanged; earlier signatures keep the old one)")
	f.StringVar(&r.Title, "title", "", "new title (default unchanged)")
	f.BoolVar(&r.RevokeNow, "revoke-now", false, "end the old password at once: it was lost, or seen by somebody else")
	f.StringVar(&codeOut, "code-out", "", "write the one-time code to this new file, readable by you alone, instead of printing it")
	return cmd
}
