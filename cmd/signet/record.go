package main

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json/jsontext"
	"fmt"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"github.com/signetd/signet/api/bundle"
	"github.com/signetd/signet/api/manifest"
	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/clients/go/signet"
)

// recordOut is a record and where it stands.
type recordOut struct {
	Name         string         `json:"name" doc:"resource name, records/{event}"`
	Type         string         `json:"type" doc:"record type, for example release"`
	Product      string         `json:"product" doc:"name of the product"`
	Version      string         `json:"version" doc:"version"`
	Title        string         `json:"title" doc:"free text"`
	State        string         `json:"state" doc:"open, approved, rejected, withdrawn or superseded; derived from the signatures"`
	Digest       string         `json:"digest" doc:"SHA-256 of the canonical record"`
	BundleDigest string         `json:"bundleDigest" doc:"bundle digest; empty for a record without a bundle"`
	FileCount    int64          `json:"fileCount" doc:"how many files the bundle has"`
	TotalBytes   int64          `json:"totalBytes" doc:"sum of their sizes"`
	Threshold    int32          `json:"threshold" doc:"how many distinct approvers must approve"`
	Approvers    []approverOut  `json:"approvers" doc:"designated approvers, and who has decided for a group or a role"`
	CreateTime   string         `json:"createTime" doc:"when it was created"`
	LedgerIndex  string         `json:"ledgerIndex" doc:"index of the entry that created it, as a decimal string"`
	Unmet        []string       `json:"unmetConditions" doc:"what keeps it from being approved"`
	Content      jsontext.Value `json:"content,omitzero" doc:"the record itself (signet-record/v1); not in lists"`
}

// approverOut is a designated approver.
type approverOut struct {
	Signer      string `json:"signer" doc:"signer id"`
	PrintedName string `json:"printedName" doc:"printed name when the record was made"`
	Decision    string `json:"decision" doc:"newest decision that counts; empty while there is none"`
}

func newRecordOut(r *signetv1.Record) recordOut {
	o := recordOut{
		Name: r.GetName(), Type: r.GetType(), Product: r.GetProduct(), Version: r.GetVersion(), Title: r.GetTitle(), State: recordStateWord(r.GetState()),
		Digest: hex.EncodeToString(r.GetDigest()), BundleDigest: hex.EncodeToString(r.GetBundleDigest()), FileCount: r.GetFileCount(),
		TotalBytes: r.GetTotalBytes(), Threshold: r.GetThreshold(), Approvers: []approverOut{}, LedgerIndex: fmt.Sprint(r.GetLedgerIndex()),
		Unmet: append([]string{}, r.GetUnmetConditions()...), Content: r.GetContent(),
	}
	if r.GetCreateTime() != nil {
		o.CreateTime = stamp(r.GetCreateTime().AsTime())
	}
	for _, a := range r.GetApprovers() {
		o.Approvers = append(o.Approvers, approverOut{a.GetSigner(), a.GetPrintedName(), decisionWord(a.GetDecision())})
	}
	return o
}

// record shows a record to people.
func (p *printer) record(r *signet.Record) {
	o, c := newRecordOut(r.State), r.Content
	bundled, roles := "", make([]string, 0, len(c.Bundle.Roles))
	if o.BundleDigest != "" {
		bundled = files(o.FileCount) + ", " + size(o.TotalBytes)
	}
	for _, path := range sorted(c.Bundle.Roles) {
		roles = append(roles, c.Bundle.Roles[path]+": "+path)
	}
	p.details(
		pair{"Record", o.Name}, pair{"Type", o.Type}, pair{"Product", o.Product + " " + o.Version}, pair{"Title", o.Title}, pair{"State", o.State},
		pair{"Created", whenStamp(o.CreateTime)}, pair{"Ledger entry", o.LedgerIndex}, pair{"Record digest", o.Digest}, pair{"Bundle digest", o.BundleDigest},
		pair{"Bundle", bundled}, pair{"Roles", strings.Join(roles, "\n")},
		pair{"Repository", c.Source.Repo}, pair{"Commit", c.Source.Commit}, pair{"Branch", c.Source.Branch}, pair{"Tag", c.Source.Tag},
		pair{"Supersedes", c.Supersedes}, pair{"Environment", c.System.Environment}, pair{"System", c.System.Access}, pair{"Software", c.System.Software},
		pair{"Policy", fmt.Sprintf("%s, version %d: %s must approve; each proves themselves by %s", c.Policy.Template.ID, c.Policy.Template.Version,
			c.Policy.Resolved.Needed(), c.Policy.Resolved.Requires)},
		pair{"Must not decide", join(c.Policy.Resolved.ExcludedSigners)},
	)
	for _, a := range o.Approvers {
		decision := cmp.Or((manifest.Approver{ID: a.Signer}).Each(), a.Decision, "has not decided")
		p.details(pair{"  Approver", a.PrintedName + " (" + a.Signer + "): " + decision})
	}
	for _, u := range o.Unmet {
		p.line("%s %s", p.warn("  Open:"), clean(u))
	}
}

// files is a number of files for people.
func files(n int64) string {
	if n == 1 {
		return "1 file"
	}
	return fmt.Sprintf("%d files", n)
}

// size is a number of bytes for people.
func size(n int64) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d bytes", n)
	case n < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	case n < 1<<30:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.2f GiB", float64(n)/(1<<30))
}

// showRecord prints one record.
func (a *app) showRecord(r *signet.Record) error {
	return a.print(newRecordOut(r.State), func(p *printer) { p.record(r) })
}

// recordID is a record's resource name, with or without its collection.
var recordID = regexp.MustCompile(`^(?:records/)?([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$`)

// recordName reads the name of a record.
func recordName(s string) (string, error) {
	m := recordID.FindStringSubmatch(s)
	if m == nil {
		return "", &exitError{code: exitUsage, err: fmt.Errorf("%q is not the name of a record: it looks like records/0193c1f0-5e3a-7cc1-8a55-1f2d3c4b5a69", s),
			next: "signet record list shows the records"}
	}
	return "records/" + m[1], nil
}

// withRecord runs f with the record that an argument names.
func (a *app) withRecord(ctx context.Context, arg string, f func(ctx context.Context, client *signet.Client, s selected, r *signet.Record) error) error {
	name, err := recordName(arg)
	if err != nil {
		return err
	}
	return a.online(ctx, func(ctx context.Context, client *signet.Client, s selected) error {
		r, err := client.GetRecord(ctx, name)
		if err != nil {
			return err
		}
		return f(ctx, client, s, r)
	})
}

func (a *app) recordCommand() *cobra.Command {
	return group("record", "Make records of what is to be signed, and read them",
		"  signet record create --bundle dist/ --type release --product bioflow_pro --version v0.1.0 --approver ada --commit \"$(git rev-parse HEAD)\"\n  signet record list",
		a.recordCreate(), a.recordShow(), a.recordList(), a.recordTypes(), a.recordManifest())
}

func (a *app) recordShow() *cobra.Command {
	return documented(&cobra.Command{
		Use: "show RECORD", Short: "Show a record, and what its approvers have decided", Args: exactArgs("RECORD"),
		Example: "  signet record show records/0193c1f0-5e3a-7cc1-8a55-1f2d3c4b5a69\n  signet record show 0193c1f0-5e3a-7cc1-8a55-1f2d3c4b5a69 --json",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withRecord(cmd.Context(), args[0], func(_ context.Context, _ *signet.Client, _ selected, r *signet.Record) error { return a.showRecord(r) })
		},
	}, recordOut{})
}

func (a *app) recordList() *cobra.Command {
	type out struct {
		Records []recordOut `json:"records" doc:"newest first"`
	}
	var state string
	cmd := documented(&cobra.Command{
		Use: "list", Short: "List records, newest first", Args: cobra.NoArgs,
		Example: "  signet record list\n  signet record list --state open --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.online(cmd.Context(), func(ctx context.Context, client *signet.Client, _ selected) error {
				o := out{Records: []recordOut{}}
				for r, err := range client.Records(ctx) {
					if err != nil {
						return err
					}
					if state == "" || recordStateWord(r.GetState()) == state {
						o.Records = append(o.Records, newRecordOut(r))
					}
				}
				return a.print(o, func(p *printer) {
					rows := make([][]string, len(o.Records))
					for i, r := range o.Records {
						rows[i] = []string{r.Name, r.Type, r.Product, r.Version, r.State, whenStamp(r.CreateTime)}
					}
					p.table([]string{"RECORD", "TYPE", "PRODUCT", "VERSION", "STATE", "CREATED"}, rows)
				})
			})
		},
	}, out{})
	cmd.Flags().StringVar(&state, "state", "", "only records of this state: open, approved, rejected, withdrawn, superseded")
	suggests(cmd, "state", "open", "approved", "rejected", "withdrawn", "superseded")
	return cmd
}

// meaningOut is a meaning of a signature.
type meaningOut struct {
	ID        string   `json:"id" doc:"identifier, for --meaning"`
	Version   int32    `json:"version" doc:"version of the text"`
	Text      string   `json:"text" doc:"the text that is signed"`
	Decisions []string `json:"decisions" doc:"decisions that it goes with"`
}

func (a *app) recordTypes() *cobra.Command {
	type kind struct {
		ID          string       `json:"id" doc:"identifier, for --type"`
		Description string       `json:"description" doc:"what it is for"`
		Bundle      bool         `json:"bundleRequired" doc:"whether a bundle is required"`
		Part11      bool         `json:"part11" doc:"whether 21 CFR Part 11 applies"`
		Roles       []string     `json:"requiredRoles" doc:"roles that must be given to at least one path"`
		Meanings    []meaningOut `json:"meanings" doc:"what a signature can mean"`
	}
	type out struct {
		Types []kind `json:"recordTypes" doc:"what can be signed"`
	}
	return documented(&cobra.Command{
		Use: "types", Short: "List what can be signed, and what a signature about it can mean", Args: cobra.NoArgs,
		Example: "  signet record types\n  signet record types --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.online(cmd.Context(), func(ctx context.Context, client *signet.Client, _ selected) error {
				types, err := client.RecordTypes(ctx)
				if err != nil {
					return err
				}
				o := out{Types: []kind{}}
				for _, t := range types {
					k := kind{t.GetId(), t.GetDescription(), t.GetBundleRequired(), t.GetPart11(), append([]string{}, t.GetRequiredRoles()...), []meaningOut{}}
					for _, m := range t.GetMeanings() {
						k.Meanings = append(k.Meanings, newMeaningOut(m))
					}
					o.Types = append(o.Types, k)
				}
				return a.print(o, func(p *printer) {
					for _, k := range o.Types {
						p.line("%s  %s", p.bold(clean(k.ID)), clean(k.Description))
						for _, m := range k.Meanings {
							p.line("    %s (%s): %s", clean(m.ID), clean(join(m.Decisions)), clean(m.Text))
						}
					}
				})
			})
		},
	}, out{})
}

func newMeaningOut(m *signetv1.Meaning) meaningOut {
	o := meaningOut{ID: m.GetId(), Version: m.GetVersion(), Text: m.GetText(), Decisions: []string{}}
	for _, d := range m.GetDecisions() {
		o.Decisions = append(o.Decisions, decisionWord(d))
	}
	return o
}

func (a *app) recordCreate() *cobra.Command {
	h := &signetv1.RecordHeader{Source: &signetv1.Source{}, Policy: &signetv1.ApprovalPolicy{}}
	var bundlePath string
	var excluded, roles, trees []string
	dutyFlags := newDutyFlags()
	cmd := documented(&cobra.Command{
		Use: "create", Short: "Make a record of a bundle, for its approvers to sign", Args: cobra.NoArgs,
		Long: `Make a record of a bundle, for its approvers to sign.

The bundle (a folder, .tar, .tar.gz, .tar.zst or .zip) is hashed here; its list of files and digests is sent, its contents are not. Only a release
manager makes records; signers never supply what they sign.`,
		Example: `  signet record create --bundle dist/ --exclude signatures/ --type release --product bioflow_pro --version v0.1.0 \
    --repository https://git.example/bioflow_pro --commit "$(git rev-parse HEAD)" --branch main --tag v0.1.0-rc.1 \
    --role index.json=index_json --role SHA256SUMS=sha256sums --approver ada
  signet record create --bundle evidence.tar.zst --type release --product bioflow_pro --version v0.2.0 --commit 1f2e… \
    --template k-of-n --threshold 2 --approver ada --approver grace --approver max --exclude-signer linus`,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if err := required(cmd, "type", "product", "version", "approver"); err != nil {
				return err
			}
			if h.Roles, err = assignments("--role", roles); err != nil {
				return err
			}
			if h.Source.Trees, err = assignments("--tree", trees); err != nil {
				return err
			}
			h.Duties = dutyFlags.duties()
			if h.Policy.Template == "" {
				h.Policy.Template = "single-approver"
				if h.Policy.Threshold > 1 || len(h.Policy.Approvers) > 1 {
					return usagef("several approvers need --template, for example --template k-of-n --threshold %d", max(h.Policy.Threshold, 2))
				}
			}
			if bundlePath == "" && len(excluded) > 0 {
				return usagef("--exclude says what of a bundle is left out: it needs --bundle")
			}
			return a.online(cmd.Context(), func(ctx context.Context, client *signet.Client, _ selected) error {
				var doc *bundle.Document
				if bundlePath != "" {
					d, err := a.readBundle(ctx, bundlePath, excluded)
					if err != nil {
						return err
					}
					doc = &d
				}
				r, err := client.CreateRecord(ctx, h, doc)
				if err != nil {
					return err
				}
				if err := a.showRecord(r); err != nil {
					return err
				}
				a.notice("\nTo sign it: signet sign %s", r.Name())
				return nil
			})
		},
	}, recordOut{})
	f := cmd.Flags()
	f.StringVar(&bundlePath, "bundle", "", "folder or archive that is to be signed")
	f.StringArrayVar(&excluded, "exclude", nil, "path of the bundle that is left out, or folder/ with a slash, repeatable; the record's policy must allow it")
	f.StringVar(&h.Type, "type", "", "record type (signet record types)")
	f.StringVar(&h.Product, "product", "", "name of the product")
	f.StringVar(&h.Version, "version", "", "version, for example v0.1.0")
	f.StringVar(&h.Title, "title", "", "free text")
	f.StringVar(&h.Source.Repository, "repository", "", "where the source is, for example an https URL")
	f.StringVar(&h.Source.Commit, "commit", "", "full id of the commit that was built")
	f.StringVar(&h.Source.Branch, "branch", "", "branch of the commit")
	f.StringVar(&h.Source.Tag, "tag", "", "tag of the commit")
	f.StringArrayVar(&trees, "tree", nil, "PATH=DIGEST of a regulated tree at the commit, repeatable")
	f.StringArrayVar(&roles, "role", nil, "PATH=ROLE of a file in the bundle, repeatable")
	f.StringArrayVar(&h.Policy.Approvers, "approver", nil, "designated approver: user name or signer id, group:NAME, or role:ROLE, repeatable")
	f.StringVar(&h.Policy.Template, "template", "", "approval policy: single-approver or k-of-n (default single-approver), with -passkey or -password-passkey after it where each approver's own device must sign")
	f.Int32Var(&h.Policy.Threshold, "threshold", 0, "how many distinct approvers must approve (default what the template says)")
	f.StringArrayVar(&h.Policy.ExcludedSigners, "exclude-signer", nil, "user name or signer id of somebody who must not decide, repeatable")
	f.BoolVar(&h.Policy.ExcludeEarlierApprovers, "exclude-earlier-approvers", false, "whoever approved the record that --supersedes names must not decide")
	for name, what := range dutyFlags {
		f.StringArrayVar(what.who, name, nil, "user name or signer id of "+what.does+", who must not decide, repeatable")
	}
	f.StringVar(&h.Supersedes, "supersedes", "", "record digest of the version before")
	suggests(cmd, "template", "single-approver", "single-approver-passkey", "single-approver-password-passkey", "k-of-n", "k-of-n-passkey", "k-of-n-password-passkey")
	return cmd
}

// assignments reads PATH=VALUE flags. A path may hold an equals sign, a value not.
func assignments(flag string, list []string) (map[string]string, error) {
	out := map[string]string{}
	for _, s := range list {
		i := strings.LastIndexByte(s, '=')
		if i <= 0 || i == len(s)-1 {
			return nil, usagef("%s %q is not of the form PATH=VALUE", flag, s)
		}
		if _, ok := out[s[:i]]; ok {
			return nil, usagef("%s names %q twice", flag, s[:i])
		}
		out[s[:i]] = s[i+1:]
	}
	return out, nil
}
