package web

import (
	"bytes"
	"context"
	"encoding/json/jsontext"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	signetv1 "github.com/signetd/signet/api/signet/v1"
)

const (
	listed  = 20  // rows of a page
	fetched = 200 // of a call, where all are needed
)

// recordList is a page of records.
type recordList struct {
	Records []*signetv1.Record
	More    string // path of the next page; empty: there are no more
	All     bool
}

func (s *site) waiting(v *visit) error { return v.list("/waiting", "What waits for you", true) }

func (s *site) allRecords(v *visit) error { return v.list("/records", "Records", false) }

func (v *visit) list(path, title string, waiting bool) error {
	answer, err := v.records.ListRecords(v.ctx(), &signetv1.ListRecordsRequest{PageSize: listed, PageToken: v.r.URL.Query().Get("from"), AwaitingCaller: waiting})
	if err != nil {
		return err
	}
	list := recordList{Records: answer.GetRecords(), All: !waiting}
	if next := answer.GetNextPageToken(); next != "" {
		list.More = path + "?from=" + url.QueryEscape(next)
	}
	return v.show("records", page{Title: title, Body: list})
}

// recordPage is a record in full.
type recordPage struct {
	Record     *signetv1.Record
	Content    manifest.Record
	Files      []fileRole // those that have a role
	Trees      []fileRole
	Signatures []*signetv1.Signature
	More       bool // there are more signatures than are shown
	Mine       bool // the caller is a designated approver
	Waits      bool // for the caller
	Counted    bool // a decision of the caller's counts, so that it can be withdrawn
}

type fileRole struct{ Path, Role string }

func rolesOf(m map[string]string) []fileRole {
	var out []fileRole
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, fileRole{k, m[k]})
	}
	return out
}

// readRecord reads the record that the path names.
func (v *visit) readRecord() (recordPage, error) {
	answer, err := v.records.GetRecord(v.ctx(), &signetv1.GetRecordRequest{Name: "records/" + v.r.PathValue("event")})
	if err != nil {
		return recordPage{}, err
	}
	out := recordPage{Record: answer.GetRecord()}
	if out.Content, err = manifest.ParseRecord(out.Record.GetContent()); err != nil {
		return recordPage{}, err
	}
	out.Files, out.Trees = rolesOf(out.Content.Bundle.Roles), rolesOf(out.Content.Source.Trees)
	me := strings.TrimPrefix(v.me.GetSigner().GetName(), "signers/")
	decided := false
	for _, a := range out.Record.GetApprovers() {
		if a.GetSigner() == me {
			out.Counted = a.GetDecision() != signetv1.Decision_DECISION_UNSPECIFIED
			switch a.GetDecision() {
			case signetv1.Decision_DECISION_APPROVE, signetv1.Decision_DECISION_REJECT, signetv1.Decision_DECISION_ABSTAIN:
				decided = true
			}
		}
		out.Mine = out.Mine || a.GetCaller()
	}
	out.Mine = out.Mine && !slices.Contains(out.Content.Policy.Resolved.ExcludedSigners, me)
	out.Waits = out.Mine && !decided && out.Record.GetState() == signetv1.RecordState_RECORD_STATE_OPEN
	return out, nil
}

func (s *site) record(v *visit) error {
	body, err := v.readRecord()
	if err != nil {
		return err
	}
	answer, err := v.signing.ListSignatures(v.ctx(), &signetv1.ListSignaturesRequest{Parent: body.Record.GetName(), PageSize: listed})
	if err != nil {
		return err
	}
	body.Signatures, body.More = answer.GetSignatures(), answer.GetNextPageToken() != ""
	return v.show("record", page{Title: body.Record.GetProduct() + " " + body.Record.GetVersion(), Body: body})
}

// content gives the record's bytes, whose digest stands on the page.
func (s *site) content(v *visit) error {
	body, err := v.readRecord()
	if err != nil {
		return err
	}
	return v.file("record-"+v.r.PathValue("event")+".json", "application/json", body.Record.GetContent())
}

// file sends a file to be kept.
func (v *visit) file(name, kind string, content []byte) error {
	h := v.w.Header()
	h.Set("Content-Type", kind)
	h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": name}))
	h.Set("Content-Length", strconv.Itoa(len(content)))
	v.w.WriteHeader(http.StatusOK)
	v.write(content)
	return nil
}

// manifest sends the signature manifest.
func (s *site) manifest(v *visit) error {
	ctx, cancel := context.WithCancel(v.ctx())
	defer cancel()
	stream, err := v.signing.GetManifest(ctx, &signetv1.GetManifestRequest{Record: "records/" + v.r.PathValue("event")})
	if err != nil {
		return err
	}
	var file bytes.Buffer
	name := ""
	for {
		piece, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if name == "" {
			name = path.Base(piece.GetFileName())
		}
		file.Write(piece.GetChunk())
	}
	return v.file(name, "application/json", file.Bytes())
}

// signaturePage is a finished signature and its place in the ledger.
type signaturePage struct {
	Signature     *signetv1.Signature
	Statement     manifest.Statement
	Authorization string
	Record        *signetv1.Record
	Entry         string // leaf hash
	EntryTime     string
	Proof         chain.Proof
	Digest        string // of the statement
	Own           bool
	Rendering     string
	Inputs        []input
}

type input struct{ Name, Value string }

func (s *site) signature(v *visit) error {
	record, err := v.readRecord()
	if err != nil {
		return err
	}
	name := record.Record.GetName() + "/signatures/" + v.r.PathValue("index")
	sig, err := v.findSignature(record.Record.GetName(), name)
	if err != nil {
		return err
	}
	st, err := manifest.ParseStatement(sig.GetStatement())
	if err != nil {
		return err
	}
	authorization, err := manifest.ParseAuthorization(sig.GetAuthorization())
	if err != nil {
		return err
	}
	proof, err := chain.ParseProof([]byte(sig.GetLedger().GetProof()))
	if err != nil {
		return err
	}
	e, err := chain.ParseEntry(sig.GetLedger().GetEntry())
	if err != nil {
		return err
	}
	digest, err := st.Digest()
	if err != nil {
		return err
	}
	body := signaturePage{
		Signature: sig, Statement: st, Authorization: string(authorization.Kind), Record: record.Record, Proof: proof, Digest: digest.String(),
		Entry: chain.LeafHash(sig.GetLedger().GetEntry()).String(), EntryTime: e.Time.String(),
		Own: "signers/"+sig.GetSigner() == v.me.GetSigner().GetName(), Rendering: manifest.Render(st), Inputs: inputsOf(st),
	}
	p := page{Title: "Signature of " + sig.GetPrintedName(), Body: body}
	if v.r.URL.Query().Get("done") == "signed" && body.Own {
		p.Done = "Signed. Your signature is in the ledger, and this page shows where."
	}
	return v.show("signature", p)
}

func inputsOf(st manifest.Statement) []input {
	var out []input
	for _, in := range st.Predicate.Inputs {
		text := string(in.Value)
		if in.Value.Kind() == '"' {
			if unquoted, err := jsontext.AppendUnquote(nil, in.Value); err == nil {
				text = string(unquoted)
			}
		}
		out = append(out, input{in.Name, text})
	}
	return out
}

func (v *visit) findSignature(record, name string) (*signetv1.Signature, error) {
	for token := ""; ; {
		answer, err := v.signing.ListSignatures(v.ctx(), &signetv1.ListSignaturesRequest{Parent: record, PageSize: fetched, PageToken: token})
		if err != nil {
			return nil, err
		}
		for _, sig := range answer.GetSignatures() {
			if sig.GetName() == name {
				return sig, nil
			}
		}
		if token = answer.GetNextPageToken(); token == "" {
			return nil, &refusal{status: http.StatusNotFound, title: "Not found", text: "The record has no such signature."}
		}
	}
}

// useList is where one's signature was used.
type useList struct {
	Uses []*signetv1.SignatureUse
	More string
}

func (s *site) uses(v *visit) error {
	answer, err := v.signing.ListOwnSignatures(v.ctx(), &signetv1.ListOwnSignaturesRequest{PageSize: listed, PageToken: v.r.URL.Query().Get("from")})
	if err != nil {
		return err
	}
	list := useList{Uses: answer.GetUses()}
	if next := answer.GetNextPageToken(); next != "" {
		list.More = "/signatures?from=" + url.QueryEscape(next)
	}
	return v.show("uses", page{Title: "Where your signature was used", Body: list})
}

// signaturePath is the page of a signature, from its resource name.
func signaturePath(name string) (string, error) {
	if !ownPath("/" + name) {
		return "", fmt.Errorf("%q is no name of a signature", name)
	}
	return "/" + name, nil
}
