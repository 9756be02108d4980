package server

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// part is a file of a backup that a test puts together.
type part struct {
	name, content string
	kind          byte // of the tar header; 0: a file
}

// sumsOf are the sums of the parts, as SHA256SUMS has them.
func sumsOf(parts []part) string {
	var b strings.Builder
	for _, p := range parts {
		fmt.Fprintf(&b, "%x  %s\n", sha256.Sum256([]byte(p.content)), p.name)
	}
	return b.String()
}

// tarOf is the one-file form of the parts.
func tarOf(t *testing.T, parts ...part) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, p := range parts {
		h := &tar.Header{Typeflag: p.kind, Name: p.name, Size: int64(len(p.content)), Mode: 0o600}
		if p.kind == 0 {
			h.Typeflag = tar.TypeReg
		} else if p.kind == tar.TypeSymlink {
			h.Linkname = "/etc/passwd"
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, p.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// summed ends the parts with their sums.
func summed(parts ...part) []part {
	return append(parts[:len(parts):len(parts)], part{name: backupSums, content: sumsOf(parts)})
}

const infoText = `{"format":"` + BackupFormat + `","origin":"signet.example/ledger","software":"signet","time":"2026-11-21T09:30:00Z"}`

// TestBackupsRefused: whatever a file or a folder holds that is no backup, there is an error that says so, and no data folder.
func TestBackupsRefused(t *testing.T) {
	t.Attr("requirement", "11.10(c)")
	info := part{name: backupInfo, content: infoText}
	const blobName = backupBlobs + "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881" // of "x"
	for name, c := range map[string]struct {
		parts []part
		want  string
	}{
		"nothing":                       {nil, "ends without SHA256SUMS"},
		"no sums":                       {[]part{info}, "ends without SHA256SUMS"},
		"no ledger":                     {summed(info), "no ledger"},
		"another order":                 {summed(part{name: TrustFile}, info), "begins with"},
		"no backup.json":                {summed(part{name: backupLedger + "x"}), "begins with"},
		"backup.json twice":             {summed(info, info), "two files backup.json"},
		"backup.json of a later kind":   {summed(part{name: backupInfo, content: strings.Replace(infoText, "/v1", "/v2", 1)}), "use the program that has made it"},
		"backup.json with more":         {summed(part{name: backupInfo, content: strings.Replace(infoText, "{", `{"x":1,`, 1)}), "backup.json"},
		"backup.json that is no JSON":   {summed(part{name: backupInfo, content: "x"}), "backup.json"},
		"something after the sums":      {append(summed(info), part{name: blobName, content: "x"}), "stands after"},
		"the sums of another file":      {[]part{info, {name: backupSums, content: sumsOf([]part{{name: backupInfo, content: "x"}})}}, "but the file gives"},
		"the sums of one more":          {[]part{info, {name: backupSums, content: sumsOf([]part{info, {name: "x"}})}}, "names more files than the 1 of the backup"},
		"the sums of one fewer":         {[]part{info, {name: TrustFile}, {name: backupSums, content: sumsOf([]part{info})}}, "names 1 files, the backup has 2"},
		"empty sums":                    {[]part{info, {name: backupSums}}, "SHA256SUMS"},
		"a link":                        {append([]part{info}, part{name: TrustFile, kind: tar.TypeSymlink}), "is no file"},
		"a folder":                      {append([]part{info}, part{name: "ledger/", kind: tar.TypeDir}), "is no file"},
		"a file outside":                {summed(info, part{name: "../evil"}), "has a file"},
		"a file from the root":          {summed(info, part{name: "/evil"}), "has a file"},
		"a file by a detour":            {summed(info, part{name: "blobs/./x"}), "has a file"},
		"a file with a line feed":       {summed(info, part{name: "blobs/a\nb"}), "has a file"},
		"a file with a backslash":       {summed(info, part{name: `blobs\x`}), "has a file"},
		"a file with a long name":       {summed(info, part{name: "blobs/" + strings.Repeat("x", 195)}), "has a file"},
		"a file of nobody":              {summed(info, part{name: "notes.txt"}), "does not belong there"},
		"a blob of another digest":      {summed(info, part{name: blobName, content: "y"}), "has the digest a1fce4363854ff888cff4b8e7875d600c2682390412a8cf79b37d0b11148b0fa"},
		"a blob of no digest":           {summed(info, part{name: backupBlobs + "x", content: "x"}), "blob digest"},
		"a ledger before its key":       {summed(info, part{name: backupLedger + "x"}), "trust file"},
		"a trust file that is none":     {summed(info, part{name: TrustFile, content: "{}"}, part{name: backupLedger + "x"}), "trust file"},
		"a trust file of 4 Mi and more": {summed(info, part{name: TrustFile, content: strings.Repeat(" ", maxSmallFile+1)}), "more than 4194304 bytes"},
	} {
		for _, form := range []string{"file", "folder"} {
			dir := t.TempDir()
			from := filepath.Join(dir, "b.tar")
			if form == "file" {
				if err := os.WriteFile(from, tarOf(t, c.parts...), 0o600); err != nil {
					t.Fatal(err)
				}
			} else if from = folderOf(t, dir, c.parts); from == "" {
				continue
			}
			to := filepath.Join(dir, "restored", "data")
			if err := os.Mkdir(filepath.Dir(to), 0o700); err != nil {
				t.Fatal(err)
			}
			_, err := RestoreBackup(t.Context(), RestoreOptions{From: from, To: to, Log: slog.New(slog.DiscardHandler)})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s, a %s: %v; want %q", name, form, err, c.want)
			}
			if left, err := os.ReadDir(filepath.Dir(to)); err != nil || len(left) > 0 {
				t.Errorf("%s, a %s: left behind: %v, %v", name, form, left, err)
			}
		}
	}
	t.Run("cancelled", func(t *testing.T) {
		dir := t.TempDir()
		from := filepath.Join(dir, "b.tar")
		if err := os.WriteFile(from, tarOf(t, summed(info)...), 0o600); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := RestoreBackup(ctx, RestoreOptions{From: from, To: filepath.Join(dir, "data")}); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// folderOf writes the parts as a folder; empty if no folder can hold them.
func folderOf(t *testing.T, dir string, parts []part) string {
	t.Helper()
	seen := map[string]bool{}
	for i, p := range parts {
		local := filepath.IsLocal(p.name) && filepath.Clean(p.name) == p.name && !strings.Contains(p.name, "\n")
		if p.kind != 0 || !local || seen[p.name] || p.name == backupSums && i < len(parts)-1 {
			return ""
		}
		seen[p.name] = true
	}
	if !seen[backupSums] || parts[len(parts)-1].content != sumsOf(parts[:len(parts)-1]) { // who reads a folder goes by its sums
		return ""
	}
	to := filepath.Join(dir, "backup")
	for _, p := range parts {
		path := filepath.Join(to, p.name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(p.content), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// TestBackupFolders: a folder is read by its sums, and each of their lines is held against the file that it names, inside of the folder.
func TestBackupFolders(t *testing.T) {
	info := part{name: backupInfo, content: infoText}
	good := sumsOf([]part{info})
	for name, c := range map[string]struct{ sums, want string }{
		"no sums":                {"", "SHA256SUMS"},
		"another byte":           {strings.Repeat("0", 64) + "  " + backupInfo + "\n", "but the file gives"},
		"in upper case":          {strings.ToUpper(good[:64]) + good[64:], "but the file gives"},
		"with one space":         {strings.Replace(good, "  ", " ", 1), "has the line"},
		"of a binary":            {strings.Replace(good, "  ", " *", 1), "has the line"},
		"of itself":              {good + sumsOf([]part{{name: backupSums}}), "has the line"},
		"of what is not there":   {good + sumsOf([]part{{name: "blobs/x"}}), "no such file"},
		"of what stands outside": {good + sumsOf([]part{{name: "../secret", content: "secret"}}), "has a file"},
		"without the last feed":  {strings.TrimSuffix(good, "\n"), "SHA256SUMS"},
	} {
		dir := t.TempDir()
		from := filepath.Join(dir, "backup")
		err := errors.Join(os.Mkdir(from, 0o700), os.WriteFile(filepath.Join(dir, "secret"), []byte("secret"), 0o600),
			os.WriteFile(filepath.Join(from, backupInfo), []byte(infoText), 0o600))
		if c.sums != "" {
			err = errors.Join(err, os.WriteFile(filepath.Join(from, backupSums), []byte(c.sums), 0o600))
		}
		if err != nil {
			t.Fatal(err)
		}
		_, err = readBackup(from, func(_ string, _ int64, r io.Reader) error { _, err := io.Copy(io.Discard, r); return err })
		if !errors.Is(err, ErrBackup) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q", name, err, c.want)
		}
	}
}

// streamOf is a backup stream of these bytes.
func streamOf(b []byte) *BackupStream {
	r := io.NopCloser(bytes.NewReader(b))
	return &BackupStream{read: r, close: r.Close}
}

// TestSave: a backup is there as a whole, with all that was sent, or not at all; and nothing is written over.
func TestSave(t *testing.T) {
	whole := tarOf(t, summed(part{name: backupInfo, content: infoText}, part{name: backupBlobs + "x", content: "evidence"})...)
	sent := append(bytes.Clone(whole), make([]byte, 20<<10)...) // a tar may be padded
	dir := t.TempDir()
	for _, name := range []string{"a.tar", "b", "c/"} {
		to := filepath.Join(dir, name)
		if strings.HasSuffix(name, "/") {
			to += "/" // as somebody types it
		}
		partial := strings.TrimRight(to, "/") + ".partial"
		if err := errors.Join(os.MkdirAll(filepath.Join(partial, "left by a backup that was killed"), 0o700)); err != nil && !strings.HasSuffix(name, ".tar") {
			t.Fatal(err)
		} else if strings.HasSuffix(name, ".tar") { // a file is left
			if err := errors.Join(os.RemoveAll(partial), os.WriteFile(partial, bytes.Repeat([]byte("x"), 1<<20), 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		var told int64
		saved, err := streamOf(sent).Save(to, func(n int64) { told += n })
		if err != nil || saved.Files != 3 || saved.Bytes == 0 || len(saved.Sums) != 64 || told == 0 {
			t.Fatalf("%s: %+v, %v; told of %d bytes", name, saved, err, told)
		}
		if b, err := os.ReadFile(to); name == "a.tar" && (err != nil || !bytes.Equal(b, sent)) {
			t.Errorf("%d of %d bytes, %v", len(b), len(sent), err)
		}
		if _, err := os.Lstat(partial); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
		again, err := readBackup(to, func(_ string, _ int64, r io.Reader) error { _, err := io.Copy(io.Discard, r); return err })
		if err != nil || again.Sums != saved.Sums {
			t.Errorf("%s: %+v, %v", name, again, err)
		}
		if _, err := streamOf(whole).Save(to, nil); err == nil {
			t.Errorf("%s is written over", name)
		}
		if again, err := readBackup(to, func(_ string, _ int64, r io.Reader) error { _, err := io.Copy(io.Discard, r); return err }); err != nil || again.Sums != saved.Sums {
			t.Errorf("%s, after it was to be written over: %+v, %v", name, again, err)
		}
	}
	for name, b := range map[string][]byte{
		"cut": whole[:700], "without its sums": tarOf(t, part{name: backupInfo, content: infoText}), "told why": []byte(brokenOff + "the disk is full"),
		"told why, at length": append(bytes.Clone(whole[:1024]), brokenOff+"the disk is full"...),
	} {
		for _, to := range []string{"broken.tar", "broken"} {
			to = filepath.Join(dir, to)
			_, err := streamOf(b).Save(to, nil)
			if err == nil || strings.HasPrefix(name, "told") != strings.Contains(err.Error(), "the service broke the backup off: the disk is full") {
				t.Errorf("%s: %v", name, err)
			}
			for _, path := range []string{to, to + ".partial"} {
				if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%s: %s is left behind (%v)", name, path, err)
				}
			}
		}
	}
}

// TestBackupFileOfAnotherSize: a file that grows or shrinks while it is written breaks the backup off.
func TestBackupFileOfAnotherSize(t *testing.T) {
	for _, content := range []string{"12", "1234"} {
		var b bytes.Buffer
		if err := newBackupWriter(&b, time.Unix(1e9, 0)).file("x", 3, strings.NewReader(content)); err == nil {
			t.Errorf("%d bytes instead of 3", len(content))
		}
	}
}

// TestBackupsAreRemembered: the last few that were handed out can be recorded, each once, and one is made at a time.
func TestBackupsAreRemembered(t *testing.T) {
	var b backups
	for i := range maxBackups + 1 {
		b.remember(Backup{Sums: fmt.Sprint(i)})
	}
	if _, ok := b.take("0"); ok {
		t.Errorf("more than %d are remembered", maxBackups)
	}
	for range 2 {
		if got, ok := b.take("7"); ok != (got.Sums == "7") {
			t.Errorf("%+v, %v", got, ok)
		}
	}
	if _, ok := b.take("7"); ok || len(b.made) != maxBackups-1 {
		t.Errorf("it can be recorded twice; %d are left", len(b.made))
	}
	s := &Server{log: slog.New(slog.DiscardHandler)}
	done, ok := s.backups.enter(t.Context())
	if !ok {
		t.Fatal("nobody makes one")
	}
	mux := http.NewServeMux()
	s.serveBackup(mux)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodPost, "/backup", nil))
	if w.Code != http.StatusConflict || !strings.Contains(w.Body.String(), "another backup is being made") {
		t.Errorf("two at once: %d %s", w.Code, w.Body)
	}
	done()
	if _, ok := s.backups.enter(t.Context()); !ok {
		t.Error("the next one may not begin")
	}
	w = httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/backup/created?sums=x", nil))
	if w.Code != http.StatusNotFound || !strings.Contains(w.Body.String(), "no such backup") {
		t.Errorf("a backup of others: %d %s", w.Code, w.Body)
	}
}
