package conform

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/export"
	"github.com/signetd/signet/api/manifest"
	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/api/trail"
	"github.com/signetd/signet/api/verify"
	"github.com/signetd/signet/server"
)

const exportFile = "ledger.tar"

func (r *run) copies() error {
	path := filepath.Join(r.o.Folder, exportFile)
	if err := r.download(path); err != nil {
		return err
	}
	r.did("exported the whole ledger, and verified it with the pinned trust file")
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	var page bytes.Buffer
	var written trail.Writer
	read := 0
	report, err := export.Verify(r.plain, f, export.Options{Trust: r.o.Trust, TempDir: r.o.Folder, Entry: func(_ chain.Entry, raw []byte) error {
		if written == nil {
			var err error
			if written, err = trail.New(trail.HTML, &page, trail.Header{Origin: r.o.Config.Ledger.Origin}); err != nil {
				return err
			}
		}
		read++
		if read > 500 { // a person looks at some of them
			return nil
		}
		return written.Add(raw)
	}})
	if err != nil {
		return err
	}
	if report.Code != verify.OK || !report.Whole() {
		return fmt.Errorf("the export does not verify: %s %v", report.Verdict, report.Faults)
	}
	if report.Entries < r.now.From {
		return fmt.Errorf("the export has %d entries, and the ledger had %d before it", report.Entries, r.now.From)
	}
	r.genuine[exportFile] = true
	r.saw("%d entries and %d attachments, root %s: verified", report.Entries, report.Attachments, report.Root)
	if written == nil || page.Len() == 0 {
		return errors.New("nothing could be read")
	}
	if err := written.Close(); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(r.o.Folder, "ledger.html"), page.Bytes(), 0o600); err != nil {
		return err
	}
	r.saw("the first %d of them as a page for people: %d bytes of HTML", min(read, 500), page.Len())
	return nil
}

func (r *run) download(path string) error {
	stream, err := signetv1.NewLedgerServiceClient(r.conn).Export(r.ctx, &signetv1.ExportRequest{})
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		piece, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return f.Close()
		}
		if err != nil {
			return err
		}
		if _, err := f.Write(piece.GetChunk()); err != nil {
			return err
		}
	}
}

// drills is in how many places a copy is altered.
const drills = 24

// places are some places in a file of a size, spread over it.
func places(size int64) []int64 {
	var out []int64
	for i := range int64(drills) {
		if at := size * (2*i + 1) / (2 * drills); !slices.Contains(out, at) {
			out = append(out, at)
		}
	}
	return out
}

// maxAltered is the largest file that is altered whole in memory.
const maxAltered = 256 << 20

func (r *run) alteredLedger() error {
	b, err := r.altered(filepath.Join(r.o.Folder, exportFile))
	if err != nil {
		return err
	}
	found := 0
	for _, at := range places(int64(len(b))) {
		copied := slices.Clone(b)
		copied[at] ^= 1
		report, err := export.Verify(r.plain, bytes.NewReader(copied), export.Options{Trust: r.o.Trust, TempDir: r.o.Folder})
		if err != nil {
			return err
		}
		if report.Code == verify.OK {
			return fmt.Errorf("one bit was altered at byte %d of %d, and the copy verifies", at, len(b))
		}
		found++
	}
	report, err := export.Verify(r.plain, bytes.NewReader(b[:len(b)/2]), export.Options{Trust: r.o.Trust, TempDir: r.o.Folder})
	if err != nil {
		return err
	}
	if report.Code == verify.OK {
		return errors.New("half of it verifies")
	}
	r.did("altered one bit of a copy of the export, in %d places, and cut a copy in half", found)
	r.saw("all %d altered copies, and the half, were refused; the half: %s", found, report.Verdict)
	return nil
}

// altered reads a copy that verifies: an alteration is found in no other.
func (r *run) altered(path string) ([]byte, error) {
	if !r.genuine[filepath.Base(path)] {
		return nil, notExercised("there is no copy that verifies unaltered")
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxAltered {
		return nil, notExercised("%s has %d bytes; copies of up to %d are altered", filepath.Base(path), info.Size(), maxAltered)
	}
	return os.ReadFile(path)
}

const backupFolder = "backup"

func (r *run) backup() error {
	if r.o.Backup == nil {
		return notExercised("a backup is made on the machine of the service alone")
	}
	to := filepath.Join(r.o.Folder, backupFolder)
	r.did("had the running service make a backup, restored it into a folder of its own, and checked that")
	if err := r.o.Backup(r.plain, to); err != nil {
		return err
	}
	restored, err := server.CheckBackup(r.plain, server.RestoreOptions{From: to, Trust: r.o.Trust})
	if err != nil {
		return err
	}
	if n := len(restored.Ledger.Faults); n > 0 {
		return fmt.Errorf("the restored ledger has %d faults: %v", n, restored.Ledger.Faults[0])
	}
	if restored.Ledger.Entries < r.now.From {
		return fmt.Errorf("the restored ledger has %d entries, and the ledger had %d before the backup", restored.Ledger.Entries, r.now.From)
	}
	r.genuine[backupFolder] = true
	r.saw("%d files; the restored ledger has %d entries, root %s, and %d rows that follow from them: no fault", restored.Files, restored.Ledger.Entries, restored.Ledger.Root, restored.Ledger.Rows)
	return nil
}

func (r *run) alteredBackup() error {
	if !r.genuine[backupFolder] {
		return notExercised("there is no backup that restores unaltered")
	}
	from := filepath.Join(r.o.Folder, backupFolder)
	var files []string
	err := filepath.WalkDir(from, func(p string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			files = append(files, p)
		}
		return err
	})
	if err != nil {
		return err
	}
	tried := 0
	for i, path := range files {
		if i%max(1, len(files)/6) != 0 { // some of them: each takes a restore
			continue
		}
		b, err := os.ReadFile(path)
		if err != nil || len(b) == 0 {
			continue
		}
		genuine := slices.Clone(b)
		b[len(b)/2] ^= 1
		if err := os.WriteFile(path, b, 0o600); err != nil {
			return err
		}
		restored, err := server.CheckBackup(r.plain, server.RestoreOptions{From: from, Trust: r.o.Trust})
		if again := os.WriteFile(path, genuine, 0o600); again != nil {
			return again
		}
		if err == nil && len(restored.Ledger.Faults) == 0 {
			return fmt.Errorf("one bit of %s was altered, and the backup restores", filepath.Base(path))
		}
		tried++
	}
	if tried == 0 {
		return errors.New("no file could be altered")
	}
	restored, err := server.CheckBackup(r.plain, server.RestoreOptions{From: from, Trust: r.o.Trust})
	if err != nil || len(restored.Ledger.Faults) > 0 { // a full disk refuses all of them
		return fmt.Errorf("the backup does not restore any more, unaltered: %w", err)
	}
	r.did("altered one bit in each of %d of the backup's %d files, one at a time", tried, len(files))
	r.saw("none of the altered backups restores; unaltered it still does")
	return nil
}

func (r *run) auditTrail() error {
	r.did("read all entries since the start of this run, and had the newest of them proved")
	types, next := map[string]int{}, r.begun
	var last *signetv1.Entry
	err := r.each(r.begun, nil, func(e *signetv1.Entry) error {
		if e.GetIndex() != next {
			return fmt.Errorf("after entry %d comes entry %d", int64(next)-1, e.GetIndex())
		}
		types[e.GetType()]++
		next++
		last = e
		return nil
	})
	if err != nil {
		return err
	}
	if types[string(chain.AuthenticationFailed)] == 0 {
		return errors.New("this run logged in with wrong credentials, and there is no entry of it")
	}
	var names []string
	for t, n := range types {
		names = append(names, fmt.Sprintf("%s %d", t, n))
	}
	slices.Sort(names)
	r.saw("%d entries, none left out: %s", next-r.begun, strings.Join(names, ", "))
	ledger := signetv1.NewLedgerServiceClient(r.conn)
	for range 100 { // it is durable before a checkpoint covers it
		proof, err := ledger.ProveInclusion(r.ctx, &signetv1.ProveInclusionRequest{Index: last.GetIndex()})
		if code, _, _ := reasonOf(err); err != nil && (code == codes.OutOfRange || code == codes.Unavailable) && wait(r.plain, 100*time.Millisecond) {
			continue
		}
		if err != nil {
			return err
		}
		if !proto.Equal(proof.GetEntry(), last) {
			return fmt.Errorf("entry %d is another one in its proof", last.GetIndex())
		}
		return r.proved(last, proof.GetProof())
	}
	return fmt.Errorf("entry %d was not proved", last.GetIndex())
}

func (r *run) proved(e *signetv1.Entry, encoded string) error {
	trust, err := manifest.ParseTrust(r.o.Trust)
	if err != nil {
		return err
	}
	proof, err := chain.ParseProof([]byte(encoded))
	if err != nil {
		return err
	}
	for _, l := range trust.Ledgers {
		if l.Origin != r.o.Config.Ledger.Origin {
			continue
		}
		key, err := chain.NewVerifier(l.VKey)
		if err != nil {
			return err
		}
		checkpoint, err := proof.Verify(key, chain.LeafHash(e.GetContent()))
		if err != nil || !l.Holds(checkpoint.Size) {
			continue
		}
		r.saw("entry %d is proved to be among the %d of the ledger that the trust file pins", e.GetIndex(), checkpoint.Size)
		return nil
	}
	return fmt.Errorf("entry %d is not proved by a key that the trust file pins", e.GetIndex())
}
