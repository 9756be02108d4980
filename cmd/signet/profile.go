package main

import (
	"bytes"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"sigs.k8s.io/yaml"
)

// configFormat names the format of config.yaml.
const configFormat = "signet-config/v1"

// config is what config.yaml in the configuration folder holds.
type config struct {
	// Format is configFormat.
	Format string `json:"format"`
	// Current is the profile that is used where none is named.
	Current string `json:"current"`
	// Profiles are the servers that this user works with.
	Profiles map[string]profile `json:"profiles"`
}

// profile is one server and what belongs to it. Paths are absolute.
type profile struct {
	// Server is the address, host:port.
	Server string `json:"server,omitempty"`
	// CA is the file of the CA that vouches for the server; empty: the system's.
	CA string `json:"ca,omitempty"`
	// ClientCertificate and ClientKey are a service's (mutual TLS).
	ClientCertificate string `json:"clientCertificate,omitempty"`
	ClientKey         string `json:"clientKey,omitempty"`
	// Trust is the pinned trust file, a copy in the configuration folder.
	Trust string `json:"trust,omitempty"`
	// UserName is who logged in last.
	UserName string `json:"userName,omitempty"`
}

// profileName is what a profile may be called: it becomes part of file names.
var profileName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,31}$`)

// maxSmallFile bounds configuration, certificates, trust files and secrets.
const maxSmallFile = 4 << 20

// errTooLarge says that a file is too large for what it should be.
var errTooLarge = errors.New("larger than the limit")

// configDir is the folder of configuration, pinned trust and sessions.
func configDir() (string, error) {
	if dir := os.Getenv("SIGNET_CONFIG_DIR"); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", withNext(err, "set SIGNET_CONFIG_DIR to a folder of your own")
	}
	return filepath.Join(dir, "signet"), nil
}

// loadConfig reads config.yaml; without one it is empty.
func loadConfig() (config, error) {
	c := config{Format: configFormat, Profiles: map[string]profile{}}
	dir, err := configDir()
	if err != nil {
		return c, err
	}
	path := filepath.Join(dir, "config.yaml")
	b, err := readFile(path, maxSmallFile)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, err
	}
	if err := yaml.UnmarshalStrict(b, &c); err != nil {
		return c, withNext(fmt.Errorf("%s: %w", path, err), "put the file right, or delete it and log in again")
	}
	if c.Format != configFormat {
		return c, withNext(fmt.Errorf("%s: format %q is not known", path, c.Format), "this program reads %s; use the program that wrote it", configFormat)
	}
	if c.Profiles == nil {
		c.Profiles = map[string]profile{}
	}
	return c, nil
}

// save writes config.yaml.
func (c config) save() error {
	dir, err := configDir()
	if err != nil {
		return err
	}
	b, err := yaml.Marshal(c)
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, "config.yaml"), b, 0o600)
}

// selected is the profile in use with the flags of this call laid over it.
type selected struct {
	name   string
	config config
	profile
}

// profile finds out which profile is meant. The profile itself need not exist yet.
func (a *app) profile() (selected, error) {
	c, err := loadConfig()
	if err != nil {
		return selected{}, err
	}
	s := selected{config: c}
	for _, name := range []string{a.profileFlag, os.Getenv("SIGNET_PROFILE"), c.Current, "default"} {
		if name != "" {
			s.name = name
			break
		}
	}
	if !profileName.MatchString(s.name) {
		return s, usagef("%q can't name a profile: use up to 32 lower-case letters, digits, dots, dashes and underscores", s.name)
	}
	s.profile = c.Profiles[s.name]
	if a.serverFlag != "" {
		s.Server = a.serverFlag
	}
	for _, f := range []struct {
		flag  string
		field *string
	}{{a.caFlag, &s.CA}, {a.certFlag, &s.ClientCertificate}, {a.keyFlag, &s.ClientKey}} {
		if f.flag != "" {
			if *f.field, err = filepath.Abs(f.flag); err != nil {
				return s, err
			}
		}
	}
	return s, nil
}

// keep saves the profile as it is now and makes it the current one if there was none or if it was named.
func (s selected) keep(named bool) error {
	s.config.Profiles[s.name] = s.profile
	if s.config.Current == "" || named {
		s.config.Current = s.name
	}
	return s.config.save()
}

// session is the file with a session's token, of mode 0600. The token goes to no other server than the one that gave it.
type session struct {
	Server     string    `json:"server"`
	UserName   string    `json:"userName"`
	Signer     string    `json:"signer"`
	Token      string    `json:"token"`
	ExpireTime time.Time `json:"expireTime"`
}

// errNoSession says that nobody is logged in.
var errNoSession = errors.New("nobody is logged in")

func (s selected) sessionFile() (string, error) {
	dir, err := configDir()
	return filepath.Join(dir, "sessions", s.name+".json"), err
}

// session reads the session of the profile with its server.
func (s selected) session() (session, error) {
	none := func(err error) (session, error) {
		return session{}, withNext(err, "signet login --profile %s", s.name)
	}
	path, err := s.sessionFile()
	if err != nil {
		return session{}, err
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return none(fmt.Errorf("%w at %s (profile %s)", errNoSession, s.Server, s.name))
	}
	if err != nil {
		return session{}, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return none(fmt.Errorf("%s can be read by others (mode %04o): the session is not used any more", path, info.Mode().Perm()))
	}
	b, err := readFile(path, maxSmallFile)
	if err != nil {
		return session{}, err
	}
	var v session
	if err := json.Unmarshal(b, &v, json.RejectUnknownMembers(true)); err != nil {
		return none(fmt.Errorf("%s: %w", path, err))
	}
	if v.Server != s.Server {
		return none(fmt.Errorf("%w at %s: the session of profile %s is with %s", errNoSession, s.Server, s.name, v.Server))
	}
	if !v.ExpireTime.IsZero() && time.Now().After(v.ExpireTime) {
		return none(fmt.Errorf("the session of %s ended %s", v.UserName, when(v.ExpireTime)))
	}
	return v, nil
}

func (s selected) saveSession(v session) error {
	path, err := s.sessionFile()
	if err != nil {
		return err
	}
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return writeFile(path, append(b, '\n'), 0o600)
}

func (s selected) dropSession() error {
	path, err := s.sessionFile()
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// readFile reads a file of at most limit bytes.
func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size := int64(0)
	if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
		size = info.Size()
	}
	return readUpTo(f, path, limit, size)
}

func readAll(r io.Reader, name string, limit int64) ([]byte, error) {
	return readUpTo(r, name, limit, 0)
}

// readUpTo reads everything. size is how much there probably is: a manifest of many files is not copied while it is read.
func readUpTo(r io.Reader, name string, limit, size int64) ([]byte, error) {
	b := bytes.NewBuffer(make([]byte, 0, min(size, limit)+bytes.MinRead))
	if _, err := b.ReadFrom(io.LimitReader(r, limit+1)); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if int64(b.Len()) > limit {
		return nil, fmt.Errorf("%s: %w of %d bytes", name, errTooLarge, limit)
	}
	return b.Bytes(), nil
}

// writeFile puts a file in place in one step: whoever reads it sees the old one or the new one, whole, whatever happens in between.
// Folders that are missing are made for the owner alone.
func writeFile(path string, b []byte, mode fs.FileMode) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return replaceFile(path, b, mode)
}

// replaceFile is writeFile in a folder that exists.
func replaceFile(path string, b []byte, mode fs.FileMode) error {
	temporary, err := temporaryFile(path, b, mode)
	if err != nil {
		return err
	}
	if err := os.Rename(temporary, path); err != nil {
		os.Remove(temporary)
		return err
	}
	return syncDir(filepath.Dir(path))
}

// createFile puts a new file in place in one step and fails with fs.ErrExist if there is one already.
func createFile(path string, b []byte, mode fs.FileMode) error {
	temporary, err := temporaryFile(path, b, mode)
	if err != nil {
		return err
	}
	defer os.Remove(temporary)
	if err := os.Link(temporary, path); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := createAlone(path, b, mode); err != nil { // a file system without hard links
			return err
		}
	}
	return syncDir(filepath.Dir(path))
}

// createAlone makes a new file in its place. A crash in between leaves a part of it, which the next call refuses to overwrite.
func createAlone(path string, b []byte, mode fs.FileMode) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			os.Remove(path)
		}
	}()
	if _, err := f.Write(b); err != nil {
		return err
	}
	return f.Sync()
}

// temporaryFile writes b, durably, to a new file beside path.
func temporaryFile(path string, b []byte, mode fs.FileMode) (name string, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return "", err
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			os.Remove(f.Name())
		}
	}()
	if err := f.Chmod(mode); err != nil {
		return "", err
	}
	if _, err := f.Write(b); err != nil {
		return "", err
	}
	return f.Name(), f.Sync()
}

// syncDir makes a rename durable, where folders can be synced.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, fs.ErrInvalid) {
		return err
	}
	return nil
}
