package pkcs11

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// confVariable is where SoftHSM looks for its configuration when it is initialised.
const confVariable = "SOFTHSM2_CONF"

// SoftHSMPaths are the places where Debian, Ubuntu, Fedora, Alpine, Arch and Homebrew put SoftHSM.
func SoftHSMPaths() []string {
	return []string{
		"/usr/lib/softhsm/libsofthsm2.so",
		"/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
		"/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
		"/usr/lib64/pkcs11/libsofthsm2.so",
		"/usr/lib64/softhsm/libsofthsm2.so",
		"/usr/lib/pkcs11/libsofthsm2.so",
		"/usr/local/lib/softhsm/libsofthsm2.so",
		"/opt/homebrew/lib/softhsm/libsofthsm2.so",
	}
}

// FindSoftHSM returns where SoftHSM is installed.
func FindSoftHSM() (string, error) {
	for _, path := range SoftHSMPaths() {
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path, nil
		}
	}
	return "", errors.New("SoftHSM is not installed: install the package softhsm2 (Debian, Ubuntu) or softhsm (Fedora), " +
		"or name the module's path")
}

// WriteSoftHSMConf writes a configuration for SoftHSM whose tokens lie in a folder of their own, and makes the folder,
// for its owner alone. Existing files are left alone: then it fails.
func WriteSoftHSMConf(path, tokenFolder string) error {
	folder, err := filepath.Abs(tokenFolder)
	if err != nil {
		return err
	}
	if strings.ContainsAny(folder, "\n\r#") {
		return fmt.Errorf("SoftHSM cannot use the folder %q: its name has a line break or a '#'", folder)
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "# SoftHSM's configuration for Signet.\ndirectories.tokendir = %s\n"+
		"objectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n", folder)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// tokenFolder returns where a configuration of SoftHSM puts its tokens, or "" where there is no such thing.
func tokenFolder(conf string) (string, error) {
	if conf == "" {
		return "", nil
	}
	b, err := os.ReadFile(conf)
	if err != nil {
		return "", fmt.Errorf("the configuration of SoftHSM cannot be read: %w", err)
	}
	lines := bufio.NewScanner(bytes.NewReader(b))
	for lines.Scan() {
		line, _, _ := strings.Cut(lines.Text(), "#")
		name, value, ok := strings.Cut(line, "=")
		if ok && strings.TrimSpace(name) == "directories.tokendir" {
			return strings.TrimSpace(value), nil
		}
	}
	return "", lines.Err()
}

// syncFolder makes durable what changed in a token folder since a time. SoftHSM never does: without it a fresh key can be
// lost with the power. Files that vanish meanwhile are another process's.
func syncFolder(folder string, since time.Time) error {
	if folder == "" {
		return nil
	}
	since = since.Add(-2 * time.Second) // clocks of file systems are coarse
	return filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			var info fs.FileInfo
			if info, err = entry.Info(); err == nil && (!info.Mode().IsRegular() || info.ModTime().Before(since)) {
				return nil
			}
		}
		if err == nil {
			err = syncFile(path)
		}
		if path != folder && errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
}

func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
