package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/clients/go/signet"
)

// serviceOut is a service.
type serviceOut struct {
	ID             string   `json:"id" doc:"identifier, svc_…; empty where a second administrator must confirm the enrolment"`
	Name           string   `json:"name" doc:"name"`
	State          string   `json:"state" doc:"active, suspended or revoked"`
	Organisation   string   `json:"organisation" doc:"organisation"`
	Methods        []string `json:"methods" doc:"methods that it may call; empty: all that services may"`
	RecordTypes    []string `json:"recordTypes" doc:"record types that it may seal; empty: all"`
	Networks       []string `json:"networks" doc:"networks that it may call from; empty: all that services may call from"`
	CallsPerSecond float64  `json:"callsPerSecond" doc:"calls a second that it may make; 0: as the server is configured"`
	Burst          int32    `json:"burst" doc:"calls that it may make at once, beyond that"`
	Certificates   []string `json:"certificates" doc:"client certificates that are admitted, by the SHA-256 of their DER"`
	ClientURI      string   `json:"clientUri" doc:"URI in its certificates of the organisation's CA; empty: it has pinned ones alone"`
	KeyID          string   `json:"keyId" doc:"SHA-256 of the SubjectPublicKeyInfo of its sealing key"`
	CreateTime     string   `json:"createTime" doc:"when it was enrolled"`
	Proposal       string   `json:"proposal" doc:"id of the proposal, where the change waits for a second administrator; else empty"`
}

func newServiceOut(s *signetv1.Signer, p *signetv1.Proposal) serviceOut {
	r := s.GetServiceRights()
	return serviceOut{
		ID: strings.TrimPrefix(s.GetName(), "signers/"), Name: s.GetPrintedName(), State: signerStateWord(s.GetState()), Organisation: s.GetOrganisation(),
		Methods: listed(r.GetMethods()), RecordTypes: listed(r.GetRecordTypes()), Networks: listed(r.GetNetworks()), CallsPerSecond: r.GetCallsPerSecond(),
		Burst: r.GetBurst(), Certificates: listed(s.GetClientCertificates()), ClientURI: s.GetClientUri(), KeyID: s.GetKeyId(),
		CreateTime: optionalStamp(s.GetCreateTime()), Proposal: strings.TrimPrefix(p.GetName(), "proposals/"),
	}
}

// listed is never null in JSON.
func listed(l []string) []string { return append([]string{}, l...) }

// showService prints a service, or what waits for a second administrator.
func (a *app) showService(s *signetv1.Signer, proposal *signetv1.Proposal) error {
	o := newServiceOut(s, proposal)
	return a.print(o, func(p *printer) {
		if proposal != nil {
			p.line("%s", cleanText(proposal.GetRendering()))
			p.line("\nIt waits for a second administrator, until %s. They confirm it with:", when(proposal.GetExpireTime().AsTime()))
			p.line("  signet proposal confirm %s", clean(o.Proposal))
			return
		}
		p.service(o)
	})
}

func (p *printer) service(o serviceOut) {
	all := func(l []string, otherwise string) string {
		if len(l) == 0 {
			return otherwise
		}
		return strings.Join(l, "\n")
	}
	rate := "as the server is configured"
	if o.CallsPerSecond > 0 {
		rate = fmt.Sprintf("%v a second, %d at once", o.CallsPerSecond, o.Burst)
	}
	p.details(
		pair{"Service", o.ID}, pair{"Name", o.Name}, pair{"Organisation", o.Organisation}, pair{"State", o.State},
		pair{"Calls", all(o.Methods, "all that services may")}, pair{"Seals", all(o.RecordTypes, "each record type")},
		pair{"From", all(o.Networks, "each network that services may call from")}, pair{"Rate", rate},
		pair{"Certificates", strings.Join(o.Certificates, "\n")}, pair{"URI", o.ClientURI}, pair{"Key", o.KeyID}, pair{"Enrolled", whenStamp(o.CreateTime)},
	)
}

func (a *app) serviceCommand() *cobra.Command {
	return group("service", "Enrol services, and change what they may do",
		"  signet service list\n  signet service enroll ci --certificate ci.pem --method /signet.v1.SigningService/Seal --record-type release",
		a.serviceEnroll(), a.serviceList(), a.serviceGet(), a.serviceChange(), a.serviceAddCertificate(), a.serviceRemoveCertificate(),
	)
}

// rightsFlags are the flags of what a service may do.
func rightsFlags(cmd *cobra.Command, r *signetv1.ServiceRights) {
	f := cmd.Flags()
	f.StringArrayVar(&r.Methods, "method", nil, "method that it may call, repeatable, for example /signet.v1.SigningService/Seal")
	f.StringArrayVar(&r.RecordTypes, "record-type", nil, "record type that it may seal, repeatable")
	f.StringArrayVar(&r.Networks, "network", nil, "network that it may call from, repeatable, for example 10.1.0.0/16")
	f.Float64Var(&r.CallsPerSecond, "rate", 0, "calls a second that it may make")
	f.Int32Var(&r.Burst, "burst", 0, "calls that it may make at once, beyond that")
}

func (a *app) serviceEnroll() *cobra.Command {
	what := &signetv1.EnrollService{Rights: &signetv1.ServiceRights{}}
	var certificate string
	cmd := documented(&cobra.Command{
		Use: "enroll NAME", Short: "Enrol a service", Args: exactArgs("NAME"),
		Long: `Enrol a service.

A service proves itself by mutual TLS: with a client certificate that is pinned here (with its key), or with any of the organisation's CA
that names it by one URI. A sealing key is made for it. What is not bounded, it may do as services may. Where there are two administrators,
another one confirms it.`,
		Example: `  signet service enroll ci --certificate ci.pem
  signet service enroll ci --certificate ci.pem --method /signet.v1.SigningService/Seal --record-type release --network 10.1.0.0/16 --rate 20 --burst 50
  signet service enroll nightly --uri spiffe://example.com/nightly`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if (certificate == "") == (what.ClientUri == "") {
				return usagef("a service needs --certificate FILE, or --uri URI")
			}
			what.ServiceName = args[0]
			return a.enrollService(cmd.Context(), what, certificate)
		},
	}, serviceOut{})
	f := cmd.Flags()
	f.StringVar(&certificate, "certificate", "", "client certificate of the service, PEM or DER")
	f.StringVar(&what.ClientUri, "uri", "", "instead: the URI in its certificates of the organisation's CA")
	f.StringVar(&what.Organisation, "organisation", "", "organisation (default the server's)")
	rightsFlags(cmd, what.Rights)
	return cmd
}

// enrollService enrols a service, by its certificate if there is one.
func (a *app) enrollService(ctx context.Context, what *signetv1.EnrollService, certificate string) error {
	if certificate != "" {
		der, err := readCertificate(certificate)
		if err != nil {
			return err
		}
		what.ClientCertificate = der
	}
	return a.online(ctx, func(ctx context.Context, client *signet.Client, _ selected) error {
		answer, err := client.EnrollService(ctx, what)
		if err != nil {
			return err
		}
		return a.showService(answer.GetSigner(), answer.GetProposal())
	})
}

func (a *app) serviceList() *cobra.Command {
	type out struct {
		Services []serviceOut `json:"services" doc:"in the order of their enrolment"`
	}
	return documented(&cobra.Command{
		Use: "list", Short: "List services", Args: cobra.NoArgs,
		Example: "  signet service list\n  signet service list --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.online(cmd.Context(), func(ctx context.Context, client *signet.Client, _ selected) error {
				o := out{Services: []serviceOut{}}
				for s, err := range client.Signers(ctx) {
					if err != nil {
						return err
					}
					if s.GetKind() == signetv1.SignerKind_SIGNER_KIND_SERVICE {
						o.Services = append(o.Services, newServiceOut(s, nil))
					}
				}
				return a.print(o, func(p *printer) {
					rows := make([][]string, len(o.Services))
					for i, s := range o.Services {
						rows[i] = []string{s.ID, s.Name, s.State, fmt.Sprint(len(s.Certificates)), s.ClientURI, whenStamp(s.CreateTime)}
					}
					p.table([]string{"SERVICE", "NAME", "STATE", "CERTIFICATES", "URI", "ENROLLED"}, rows)
				})
			})
		},
	}, out{})
}

// findService is a service given by id or by name.
func findService(ctx context.Context, client *signet.Client, who string) (*signetv1.Signer, error) {
	if m := signerID.FindStringSubmatch(who); m != nil && strings.HasPrefix(m[1], "svc_") {
		return client.GetSigner(ctx, "signers/"+m[1])
	}
	for s, err := range client.Signers(ctx) {
		if err != nil {
			return nil, err
		}
		if s.GetKind() == signetv1.SignerKind_SIGNER_KIND_SERVICE && strings.EqualFold(s.GetPrintedName(), who) {
			return s, nil
		}
	}
	return nil, withNext(usagef("no service has the name %q", who), "signet service list shows the services")
}

func (a *app) serviceGet() *cobra.Command {
	return documented(&cobra.Command{
		Use: "get SERVICE", Short: "Show one service, by id or name", Args: exactArgs("SERVICE"),
		Example: "  signet service get ci\n  signet service get svc_01h8xk2m --json",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.online(cmd.Context(), func(ctx context.Context, client *signet.Client, _ selected) error {
				s, err := findService(ctx, client, args[0])
				if err != nil {
					return err
				}
				return a.showService(s, nil)
			})
		},
	}, serviceOut{})
}

func (a *app) serviceChange() *cobra.Command {
	r := &signetv1.ServiceRights{}
	var reason string
	cmd := documented(&cobra.Command{
		Use: "change SERVICE", Short: "Change what a service may do", Args: exactArgs("SERVICE"),
		Long: `Change what a service may do.

A flag that is given replaces all that was there of its kind; what is not given stays. An empty value takes the bound away: --network ''.
It holds from the next call on, and for seals that are not in the ledger yet.`,
		Example: `  signet service change ci --record-type release --record-type verification --reason "verification records, too"
  signet service change ci --network '' --rate 5 --burst 20 --reason "runners have moved"`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := required(cmd, "reason"); err != nil {
				return err
			}
			return a.online(cmd.Context(), func(ctx context.Context, client *signet.Client, _ selected) error {
				s, err := findService(ctx, client, args[0])
				if err != nil {
					return err
				}
				before := s.GetServiceRights()
				changed := cmd.Flags().Changed
				next := &signetv1.ServiceRights{
					Methods: pick(changed("method"), r.Methods, before.GetMethods()), RecordTypes: pick(changed("record-type"), r.RecordTypes, before.GetRecordTypes()),
					Networks: pick(changed("network"), r.Networks, before.GetNetworks()), CallsPerSecond: before.GetCallsPerSecond(), Burst: before.GetBurst(),
				}
				if changed("rate") {
					next.CallsPerSecond = r.CallsPerSecond
				}
				if changed("burst") {
					next.Burst = r.Burst
				}
				answer, err := client.ChangeService(ctx, s.GetName(), next, reason)
				if err != nil {
					return err
				}
				return a.showService(answer.GetSigner(), answer.GetProposal())
			})
		},
	}, serviceOut{})
	rightsFlags(cmd, r)
	cmd.Flags().StringVar(&reason, "reason", "", "why; it is recorded")
	return cmd
}

// pick is what was given, without empty values, or what was there.
func pick(given bool, list, before []string) []string {
	if !given {
		return before
	}
	var out []string
	for _, s := range list {
		if s != "" {
			out = append(out, s)
		}
	}
	return out
}

func (a *app) serviceAddCertificate() *cobra.Command {
	var reason string
	cmd := documented(&cobra.Command{
		Use: "add-certificate SERVICE FILE", Short: "Admit another client certificate of a service", Args: exactArgs("SERVICE", "FILE"),
		Long: `Admit another client certificate of a service, PEM or DER, beside those that it has.

So a service changes its certificate without a call that is refused: admit the new one, give it to the service, remove the old one.`,
		Example: "  signet service add-certificate ci ci-2027.pem --reason \"the old one lapses in January\"",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := required(cmd, "reason"); err != nil {
				return err
			}
			der, err := readCertificate(args[1])
			if err != nil {
				return err
			}
			return a.online(cmd.Context(), func(ctx context.Context, client *signet.Client, _ selected) error {
				s, err := findService(ctx, client, args[0])
				if err != nil {
					return err
				}
				answer, err := client.AddServiceCertificate(ctx, s.GetName(), der, reason)
				if err != nil {
					return err
				}
				return a.showService(answer.GetSigner(), answer.GetProposal())
			})
		},
	}, serviceOut{})
	cmd.Flags().StringVar(&reason, "reason", "", "why; it is recorded")
	return cmd
}

func (a *app) serviceRemoveCertificate() *cobra.Command {
	var reason string
	cmd := documented(&cobra.Command{
		Use: "remove-certificate SERVICE CERTIFICATE", Short: "Admit a client certificate of a service no longer", Args: exactArgs("SERVICE", "CERTIFICATE"),
		Long: `Admit a client certificate of a service no longer: neither it nor its key. Connections that were made with it make no further call.

CERTIFICATE is a file (PEM or DER), or the SHA-256 of its DER as signet service get prints it.`,
		Example: "  signet service remove-certificate ci ci-2026.pem --reason \"replaced\"",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := required(cmd, "reason"); err != nil {
				return err
			}
			sum, err := certificateSum(args[1])
			if err != nil {
				return err
			}
			return a.online(cmd.Context(), func(ctx context.Context, client *signet.Client, _ selected) error {
				s, err := findService(ctx, client, args[0])
				if err != nil {
					return err
				}
				if s, err = client.RemoveServiceCertificate(ctx, s.GetName(), sum, reason); err != nil {
					return err
				}
				return a.showService(s, nil)
			})
		},
	}, serviceOut{})
	cmd.Flags().StringVar(&reason, "reason", "", "why; it is recorded")
	return cmd
}

// certificateSum is the SHA-256 of a certificate, given in hex or as a file.
func certificateSum(s string) (sum [sha256.Size]byte, err error) {
	if b, err := hex.DecodeString(s); err == nil && len(b) == sha256.Size {
		if _, err := os.Stat(s); err != nil {
			return [sha256.Size]byte(b), nil
		}
	}
	der, err := readCertificate(s)
	return sha256.Sum256(der), err
}
