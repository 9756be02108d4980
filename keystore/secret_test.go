package keystore_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/signetd/signet/keystore"
)

func TestSecretIsNeverPrinted(t *testing.T) {
	const pin = "correct horse"
	secret := keystore.NewSecret(pin)
	type config struct {
		PIN    keystore.Secret
		hidden keystore.Secret
		Ptr    *keystore.Secret
	}
	c := config{secret, secret, &secret}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T", "%p", "%08.3f"} {
		fmt.Fprintf(&out, verb+"\n", secret)
		fmt.Fprintf(&out, verb+"\n", &secret)
		fmt.Fprintf(&out, verb+"\n", c)
		fmt.Fprintf(&out, verb+"\n", []keystore.Secret{secret})
		fmt.Fprintf(&out, verb+"\n", map[string]config{"a": c})
	}
	for _, handler := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(handler).Info("x", "pin", secret, "config", c, "pointer", &secret)
	}
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	out.Write(b)
	fmt.Fprintln(&out, fmt.Errorf("wrapped: %v", secret))
	for _, leak := range []string{pin, fmt.Sprintf("%x", pin), fmt.Sprintf("%X", pin), "horse"} {
		if strings.Contains(out.String(), leak) {
			t.Errorf("%q leaks into\n%s", leak, out.String())
		}
	}
	if got := fmt.Sprint(secret); got != "[redacted]" {
		t.Errorf("prints as %q", got)
	}
	if secret.Reveal() != pin || secret.Empty() || !(keystore.Secret{}).Empty() {
		t.Error("a secret keeps its text")
	}
}

func TestPINFile(t *testing.T) {
	folder := t.TempDir()
	file := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, good := range []struct{ name, text, want string }{
		{"plain", "12345678", "12345678"},
		{"line", "12345678\n", "12345678"},
		{"crlf", "12345678\r\n", "12345678"},
		{"spaces", " 1234 5678 \n", " 1234 5678 "},
		{"lines", "1234\n\n", "1234\n"},
	} {
		t.Run(good.name, func(t *testing.T) {
			pin, err := keystore.PINFile(file(good.name, good.text, 0o600))(t.Context())
			if err != nil || pin.Reveal() != good.want {
				t.Errorf("got %q, %v", pin.Reveal(), err)
			}
		})
	}
	pipe := filepath.Join(folder, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{
		"the group can read it": file("group", "12345678", 0o640),
		"all can read it":       file("all", "12345678", 0o604),
		"all can write it":      file("write", "12345678", 0o602),
		"empty":                 file("empty", "\n", 0o600),
		"too long":              file("long", strings.Repeat("1", 2000), 0o600),
		"missing":               filepath.Join(folder, "missing"),
		"a folder":              folder,
		"a pipe":                pipe,
	} {
		t.Run(name, func(t *testing.T) {
			pin, err := keystore.PINFile(path)(t.Context())
			if err == nil || !pin.Empty() {
				t.Errorf("accepted: %v", err)
			} else if strings.Contains(err.Error(), "12345678") {
				t.Errorf("the error tells the PIN: %v", err)
			}
		})
	}
}

func TestPINCredential(t *testing.T) {
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "pin"), []byte("12345678"), 0o440); err != nil {
		t.Fatal(err)
	}
	if _, err := keystore.PINCredential("pin")(t.Context()); err == nil {
		t.Error("accepted without $CREDENTIALS_DIRECTORY")
	}
	t.Setenv("CREDENTIALS_DIRECTORY", folder)
	if pin, err := keystore.PINCredential("pin")(t.Context()); err != nil || pin.Reveal() != "12345678" {
		t.Errorf("got %v", err)
	}
	for _, name := range []string{"", ".", "..", "../pin", "a/b", "other"} {
		if _, err := keystore.PINCredential(name)(t.Context()); err == nil {
			t.Errorf("%q accepted", name)
		}
	}
}

func TestPINPrompt(t *testing.T) {
	asked, answer, failure := 0, "", errors.New("no terminal")
	source := keystore.PINPrompt(func(context.Context) ([]byte, error) {
		asked++
		if answer == "fail" {
			return nil, failure
		}
		return []byte(answer), nil
	})
	if _, err := source(t.Context()); err == nil {
		t.Error("an empty answer is accepted")
	}
	answer = "fail"
	if _, err := source(t.Context()); !errors.Is(err, failure) {
		t.Errorf("got %v", err)
	}
	answer = "12345678"
	for range 2 {
		if pin, err := source(t.Context()); err != nil || pin.Reveal() != "12345678" {
			t.Errorf("got %v", err)
		}
	}
	if asked != 3 {
		t.Errorf("asked %d times, want 3: a good answer is kept", asked)
	}
}
