package server

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// TestArchiveNames: what an entry says of the store leaves out what changes, and without a store nothing is moved.
func TestArchiveNames(t *testing.T) {
	for store, want := range map[string]string{
		"archive": "folder", "/mnt/archive": "folder", "s3://bucket/a": "s3://bucket/a", "s3://bucket/a?endpoint=https://x&region=y": "s3://bucket/a", "s3://bucket?": "s3://bucket",
	} {
		var c Config
		c.Ledger.Archive.Store = store
		if got := archiveName(c); got != want {
			t.Errorf("%s is called %s, want %s", store, got, want)
		}
	}
	s := new(Server)
	if _, err := s.archiveReport(t.Context(), 0); !errors.Is(err, ErrNoArchive) || newArchiveStore(Options{}) != nil {
		t.Errorf("without a store: %v", err)
	}
	if err := s.closeArchive(); err != nil {
		t.Error(err)
	}
	c := Config{DataDir: t.TempDir()}
	c.Ledger.Archive.Store = "archive" // beside the data, and not there
	store := newArchiveStore(Options{Config: c, Clock: time.Now}).(*archiveStore)
	if _, err := store.Put(t.Context(), []byte("x")); err == nil || !strings.Contains(err.Error(), "ledger.archive.store") {
		t.Errorf("a folder that is not there: %v", err)
	}
	if err := store.Close(); err != nil {
		t.Error(err)
	}
}
