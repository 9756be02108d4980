package blob

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestLocation(t *testing.T) {
	for location, want := range map[string]s3Location{
		"s3://bucket":      {bucket: "bucket", endpoint: "s3.amazonaws.com", secure: true},
		"s3://bucket/a/b/": {bucket: "bucket", prefix: "a/b/", endpoint: "s3.amazonaws.com", secure: true},
		"s3://bucket/a?endpoint=https://s3.example:9000&region=eu-1": {bucket: "bucket", prefix: "a/", endpoint: "s3.example:9000", region: "eu-1", secure: true},
		"s3://bucket?endpoint=http://127.0.0.1:9000/":                {bucket: "bucket", endpoint: "127.0.0.1:9000"},
	} {
		if got, err := parseS3(location); err != nil || got != want {
			t.Errorf("%s is %+v, %v; want %+v", location, got, err, want)
		}
		if err := CheckLocation(location); err != nil {
			t.Errorf("%s: %v", location, err)
		}
	}
	for _, location := range []string{"s3://", "s3:///a", "s3://user:secret@bucket", "s3://bucket#x", "s3://bucket:80", "s3://bucket?endpoint=http://s3.example", "s3://bucket?endpoint=s3.example",
		"s3://bucket?endpoint=https://a/b", "s3://bucket?endpoint=https://u:p@a", "s3://bucket?secret=x", "s3://bucket?region=a&region=b", "s3://bucket?a=%zz", "s3://bucket?endpoint=ftp://127.0.0.1"} {
		if err := CheckLocation(location); err == nil {
			t.Errorf("%s is taken", location)
		}
	}
	if err := CheckLocation("archive"); err != nil || IsS3("archive") {
		t.Errorf("a folder: %v", err)
	}
}

func TestOpenStore(t *testing.T) {
	dir := t.TempDir()
	if s, err := OpenStore(dir, StoreOptions{}); err != nil {
		t.Error(err)
	} else if _, ok := s.(*Folder); !ok {
		t.Errorf("%T", s)
	}
	if _, err := OpenStore(dir, StoreOptions{Retain: time.Hour}); err == nil {
		t.Error("a folder that retains")
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	if _, err := OpenStore("s3://bucket", StoreOptions{}); err == nil || !strings.Contains(err.Error(), "AWS_ACCESS_KEY_ID") {
		t.Errorf("without credentials: %v", err)
	}
	file := filepath.Join(dir, "credentials")
	if _, err := OpenStore("s3://bucket", StoreOptions{Credentials: file}); err == nil {
		t.Error("credentials that are not there")
	}
	if err := os.WriteFile(file, []byte("[default]\naws_access_key_id = a\naws_secret_access_key = b\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenStore("s3://bucket", StoreOptions{Credentials: file}); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("credentials that others can read: %v", err)
	}
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenStore("s3://bucket", StoreOptions{Credentials: file}); err != nil {
		t.Error(err)
	}
}
