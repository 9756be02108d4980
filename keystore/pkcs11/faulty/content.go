package faulty

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/keystore/keystoretest"
	"github.com/signetd/signet/keystore/pkcs11"
)

// The folder of a Module has, beside the library:
//
//	softhsm2.conf  names tokens
//	tokens         what is in the device now
//	blank          what was in it when it was new
//	content-1 …    what can be put into it, each with a softhsm2.conf of its own

// Config makes the token of the module, without keys, and returns how to open it. Each call returns the same token.
func (m *Module) Config(t testing.TB) pkcs11.Config {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	conf, tokens := filepath.Join(m.folder, "softhsm2.conf"), filepath.Join(m.folder, "tokens")
	if m.config.Module == "" {
		const label = "faulty"
		serial := m.makeToken(t, conf, tokens, label)
		if err := os.CopyFS(filepath.Join(m.folder, "blank"), os.DirFS(tokens)); err != nil {
			t.Fatal(err)
		}
		m.config = pkcs11.Config{
			Module: m.Path, SoftHSMConf: conf, TokenLabel: label, Serial: serial,
			PIN: keystore.PINFixed(keystore.NewSecret(keystoretest.PIN)),
		}
	}
	return m.config
}

// makeToken makes a token in a folder, past the faults, and returns its serial number.
func (m *Module) makeToken(t testing.TB, conf, tokens, label string) string {
	t.Helper()
	if err := pkcs11.WriteSoftHSMConf(conf, tokens); err != nil {
		t.Fatal(err)
	}
	info, err := pkcs11.InitToken(t.Context(), pkcs11.InitConfig{
		Module: m.maker(t, filepath.Dir(conf)), SoftHSMConf: conf, Label: label,
		SOPIN: keystore.NewSecret(keystoretest.SOPIN), PIN: keystore.NewSecret(keystoretest.PIN),
	})
	if err != nil {
		t.Fatal(err)
	}
	return info.Serial
}

// maker returns a SoftHSM to make tokens and keys with. A process can use it with one configuration at a time, so each folder has one.
func (m *Module) maker(t testing.TB, folder string) string {
	t.Helper()
	real, err := pkcs11.FindSoftHSM()
	path := filepath.Join(folder, "maker.so")
	if err == nil {
		_, err = os.Stat(path)
	}
	if os.IsNotExist(err) {
		var library []byte
		if library, err = os.ReadFile(real); err == nil {
			err = os.WriteFile(path, library, 0o700)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// A Content is what can be in the device: a token with its keys.
type Content struct {
	Config pkcs11.Config // to open it by itself, past the faults, while it is not in the device

	tokens string // folder
}

// Blank returns the token as it was when it was new: the same label, serial number and PIN, and no keys.
func (m *Module) Blank(t testing.TB) *Content {
	t.Helper()
	return m.content(t, filepath.Join(m.folder, "blank"))
}

// Clone returns a copy of the token as it is now.
func (m *Module) Clone(t testing.TB) *Content {
	t.Helper()
	return m.content(t, filepath.Join(m.folder, "tokens"))
}

// Another returns another token, with the same label and PIN, another serial number, and no keys.
func (m *Module) Another(t testing.TB) *Content {
	t.Helper()
	return m.content(t, "")
}

func (m *Module) content(t testing.TB, from string) *Content {
	t.Helper()
	config := m.Config(t)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.contents++
	folder := filepath.Join(m.folder, fmt.Sprintf("content-%d", m.contents))
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	tokens := filepath.Join(folder, "tokens")
	config.SoftHSMConf = filepath.Join(folder, "softhsm2.conf")
	if from == "" {
		config.Serial = m.makeToken(t, config.SoftHSMConf, tokens, config.TokenLabel)
	} else {
		err := pkcs11.WriteSoftHSMConf(config.SoftHSMConf, tokens)
		if err == nil {
			err = os.CopyFS(tokens, os.DirFS(from))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	config.Module = m.maker(t, folder)
	return &Content{Config: config, tokens: tokens}
}

// Insert puts a content into the device, whose own is lost silently and returned. Restore brings the new one into use.
func (m *Module) Insert(t testing.TB, c *Content) *Content {
	t.Helper()
	m.Lose(Silently)
	old := m.Blank(t)
	m.mu.Lock()
	defer m.mu.Unlock()
	tokens := filepath.Join(m.folder, "tokens")
	err := os.RemoveAll(old.tokens)
	if err == nil {
		err = os.Rename(tokens, old.tokens)
	}
	if err == nil {
		err = os.Rename(c.tokens, tokens)
	}
	if err != nil {
		t.Fatal(err)
	}
	return old
}
