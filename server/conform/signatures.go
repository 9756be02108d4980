package conform

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/signetd/signet/api/manifest"
	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/api/verify"
	"github.com/signetd/signet/deploy"
)

// records lists the newest records.
func (r *run) records() ([]*signetv1.Record, error) {
	page, err := signetv1.NewRecordServiceClient(r.conn).ListRecords(r.ctx, &signetv1.ListRecordsRequest{PageSize: 200})
	return page.GetRecords(), err
}

// newestRecord reads the record that was made last.
func (r *run) newestRecord() (string, manifest.Record, error) {
	list, err := r.records()
	if err != nil {
		return "", manifest.Record{}, err
	}
	if len(list) == 0 {
		return "", manifest.Record{}, notExercised("there is no record yet")
	}
	one, err := signetv1.NewRecordServiceClient(r.conn).GetRecord(r.ctx, &signetv1.GetRecordRequest{Name: list[0].GetName()})
	if err != nil {
		return "", manifest.Record{}, err
	}
	record, err := manifest.ParseRecord(one.GetRecord().GetContent())
	return list[0].GetName(), record, err
}

func (r *run) declared() error {
	r.did("read what the configuration declares")
	declared := r.o.Config.Access()
	r.saw("a system that is %s", declared)
	name, record, err := r.newestRecord()
	if err != nil {
		return err
	}
	r.did("read the newest record, %s", name)
	if record.System.Access != declared {
		return fmt.Errorf("it says %q; was it made under another configuration?", record.System.Access)
	}
	r.saw("it says the same")
	return nil
}

func (r *run) documents() error {
	digest, err := deploy.Digest()
	if err != nil {
		return err
	}
	name, record, err := r.newestRecord()
	if err != nil {
		return err
	}
	r.did("read the newest record, %s", name)
	s := record.System
	if s.Documents == "" || s.Configuration == "" || s.Strategy == "" || s.Software == "" {
		return fmt.Errorf("it names no documents, configuration, strategy or software: %+v", s)
	}
	r.saw("made by %s; it names its documents by SHA-256 %s", s.Software, s.Documents)
	switch {
	case s.Documents == digest:
		r.saw("these are the documents of this program")
	case s.Software == "signet "+r.me.GetServerVersion():
		return fmt.Errorf("the service says that it is %s, whose documents have the SHA-256 %s", s.Software, digest)
	}
	return nil
}

const manifestFile = "manifest.json"

func (r *run) signedManifest() error {
	list, err := r.records()
	if err != nil {
		return err
	}
	i := slices.IndexFunc(list, func(x *signetv1.Record) bool { return x.GetState() == signetv1.RecordState_RECORD_STATE_APPROVED })
	if i < 0 {
		return notExercised("no record was approved yet")
	}
	r.did("fetched the manifest of %s, and verified it with the pinned trust file alone", list[i].GetName())
	stream, err := signetv1.NewSigningServiceClient(r.conn).GetManifest(r.ctx, &signetv1.GetManifestRequest{Record: list[i].GetName()})
	if err != nil {
		return err
	}
	var file []byte
	for {
		piece, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		file = append(file, piece.GetChunk()...)
	}
	report, err := verify.Verify(r.plain, verify.Input{SkipContent: true, Manifest: file, Trust: r.o.Trust})
	if err != nil {
		return err
	}
	if report.Code != verify.OK {
		return fmt.Errorf("it does not verify: %s %v", report.Verdict, report.Faults)
	}
	for _, s := range report.Signatures {
		if s.Name == "" || s.Name == s.Signer || s.Time == "" || s.LocalTime == "" || s.MeaningText == "" {
			return fmt.Errorf("a signature lacks printed name, time or meaning: %+v", s)
		}
		r.saw("%s, %s: %s (%s), proved by %s", s.Name, s.LocalTime, s.MeaningText, s.Decision, s.Authorization)
	}
	r.genuine[manifestFile] = true
	return os.WriteFile(filepath.Join(r.o.Folder, manifestFile), file, 0o600)
}

func (r *run) alteredManifest() error {
	b, err := r.altered(filepath.Join(r.o.Folder, manifestFile))
	if err != nil {
		return err
	}
	refused := func(what string, b []byte) error {
		report, err := verify.Verify(r.plain, verify.Input{SkipContent: true, Manifest: b, Trust: r.o.Trust})
		if err != nil {
			return err
		}
		if report.Code == verify.OK {
			return fmt.Errorf("%s, and it verifies", what)
		}
		return nil
	}
	all := places(int64(len(b)))
	for _, at := range all {
		copied := slices.Clone(b)
		copied[at] ^= 1
		if err := refused(fmt.Sprintf("one bit was altered at byte %d of %d", at, len(b)), copied); err != nil {
			return err
		}
	}
	m, err := manifest.Parse(b)
	if err != nil {
		return err
	}
	moved := m
	moved.Record.Name += "x" // the same signatures about another record
	encoded, err := moved.Encode()
	if err != nil {
		return err
	}
	if err := refused("the signatures were moved to another record", encoded); err != nil {
		return err
	}
	fewer := m
	fewer.Signatures = m.Signatures[1:]
	if encoded, err = fewer.Encode(); err != nil {
		return err
	}
	if err := refused("a signature was taken out", encoded); err != nil {
		return err
	}
	r.did("altered one bit of a copy of the manifest in %d places; moved its signatures to another record; took one out", len(all))
	r.saw("none of the altered copies verifies")
	return nil
}
