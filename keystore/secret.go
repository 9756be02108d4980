package keystore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
)

const (
	redacted  = "[redacted]"
	maxSecret = 1024 // bytes; more than any token's PIN
)

// A Secret is a PIN or another secret. However it is printed, logged or encoded, it comes out as "[redacted]"; only
// [Secret.Reveal] gives it away.
type Secret struct {
	reveal func() string // a func, because fmt prints the contents of unexported fields without asking
}

// NewSecret hides a text.
func NewSecret(text string) Secret { return Secret{func() string { return text }} }

// Reveal returns the secret. It must not be kept, logged or put in an error.
func (s Secret) Reveal() string {
	if s.reveal == nil {
		return ""
	}
	return s.reveal()
}

// Empty reports whether there is no secret.
func (s Secret) Empty() bool { return s.Reveal() == "" }

// Format implements [fmt.Formatter] for every verb.
func (Secret) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// String implements [fmt.Stringer].
func (Secret) String() string { return redacted }

// MarshalText implements [encoding.TextMarshaler], which JSON and YAML use.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue implements [slog.LogValuer].
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// A PINSource gives the PIN of a token when it is needed: at opening, and again after the device logged us out. Its
// errors say where the PIN should have come from, and never the PIN.
type PINSource func(ctx context.Context) (Secret, error)

// PINFixed gives a PIN that is in memory already.
func PINFixed(pin Secret) PINSource {
	return func(context.Context) (Secret, error) { return pin, nil }
}

// PINFile reads the PIN from a regular file that nobody but its owner can use (mode 0600 or 0400). One line
// feed at the end is not part of the PIN.
func PINFile(path string) PINSource {
	return func(context.Context) (Secret, error) { return readSecret(path, 0o077, "chmod 600 it") }
}

// PINCredential reads the PIN from a credential of the service manager: the file of that name in the folder that
// systemd names in $CREDENTIALS_DIRECTORY (LoadCredential=, LoadCredentialEncrypted=).
func PINCredential(name string) PINSource {
	return func(context.Context) (Secret, error) {
		dir := os.Getenv("CREDENTIALS_DIRECTORY")
		if dir == "" {
			return Secret{}, errors.New("no PIN: $CREDENTIALS_DIRECTORY is not set; start the program by systemd with " +
				"LoadCredential=" + name + ":…, or take the PIN from a file")
		}
		if name == "" || name == "." || name == ".." || strings.ContainsRune(name, filepath.Separator) {
			return Secret{}, fmt.Errorf("no PIN: %q is not the name of a credential", name)
		}
		// systemd shares such files with the service's group or by an access list, which shows in the group's bits.
		return readSecret(filepath.Join(dir, name), 0o007, "let systemd set it up")
	}
}

// PINPrompt asks a person, once; the answer is kept in memory for a later login.
func PINPrompt(ask func(ctx context.Context) ([]byte, error)) PINSource {
	var pin Secret
	lock := make(chan struct{}, 1)
	return func(ctx context.Context) (Secret, error) {
		select {
		case lock <- struct{}{}:
			defer func() { <-lock }()
		case <-ctx.Done():
			return Secret{}, ctx.Err()
		}
		if !pin.Empty() {
			return pin, nil
		}
		answer, err := ask(ctx)
		if err != nil {
			return Secret{}, fmt.Errorf("no PIN: %w", err)
		}
		if len(answer) == 0 {
			return Secret{}, errors.New("no PIN: the answer was empty")
		}
		pin = NewSecret(string(answer))
		clear(answer)
		return pin, nil
	}
}

// readSecret reads a file that must not have any of the forbidden permission bits.
func readSecret(path string, forbidden fs.FileMode, remedy string) (Secret, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|nonblock, 0) // a named pipe must not make us wait
	if err != nil {
		return Secret{}, fmt.Errorf("no PIN: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return Secret{}, fmt.Errorf("no PIN: %w", err)
	}
	if !info.Mode().IsRegular() {
		return Secret{}, fmt.Errorf("no PIN: %s is not a regular file", path)
	}
	if mode := info.Mode().Perm(); mode&forbidden != 0 {
		return Secret{}, fmt.Errorf("no PIN: others can use %s (mode %04o); %s", path, mode, remedy)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return Secret{}, fmt.Errorf("no PIN: %w", err)
	}
	defer clear(b)
	if len(b) > maxSecret {
		return Secret{}, fmt.Errorf("no PIN: %s has more than %d bytes", path, maxSecret)
	}
	text := strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
	if text == "" {
		return Secret{}, fmt.Errorf("no PIN: %s is empty", path)
	}
	return NewSecret(text), nil
}
