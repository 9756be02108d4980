package blob

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"
)

// Store keeps blobs: [Folder] in a directory, [S3] in a bucket. Once Put returns, the blob is durable; putting one that is there already is
// no error. Get returns the bytes of the digest or an error, never other bytes. Both may be called again after any error.
type Store interface {
	Put(ctx context.Context, r io.Reader, limit int64) (Digest, int64, error)
	Get(ctx context.Context, d Digest, limit int64) ([]byte, error)
	Close() error
}

// StoreOptions say how to reach a store.
type StoreOptions struct {
	// Credentials is a file in the form of the AWS tools (an [default] section with aws_access_key_id and aws_secret_access_key), mode 0600;
	// empty for the environment variables of the same names in upper case. Of no use to a folder.
	Credentials string
	// Retain, if not zero, has the bucket keep each object for so long, whatever anybody asks for (object lock, mode COMPLIANCE); the bucket
	// must have object lock enabled. A folder cannot.
	Retain time.Duration
	Clock  func() time.Time // for Retain
}

// IsS3 reports whether a location names a bucket.
func IsS3(location string) bool { return strings.HasPrefix(location, "s3://") }

// OpenStore opens the store at a location: a directory, which must exist, or a bucket,
//
//	s3://bucket/prefix?endpoint=https://s3.example:9000&region=eu-central-1
//
// The endpoint is that of AWS where there is none. Plain HTTP is for the loopback alone.
func OpenStore(location string, o StoreOptions) (Store, error) {
	if IsS3(location) {
		return openS3(location, o)
	}
	if o.Retain != 0 {
		return nil, fmt.Errorf("open blob store %s: a folder cannot retain; leave the retention out, or name a bucket", location)
	}
	return Open(location)
}

// CheckLocation reports what is wrong with a location, without opening anything.
func CheckLocation(location string) error {
	if !IsS3(location) {
		return nil
	}
	_, err := parseS3(location)
	return err
}

// s3Location is where a bucket is.
type s3Location struct {
	bucket, prefix   string
	endpoint, region string
	secure           bool
}

func parseS3(location string) (s3Location, error) {
	bad := func(format string, args ...any) (s3Location, error) {
		return s3Location{}, fmt.Errorf("blob store %q: "+format+"; write s3://bucket/prefix?endpoint=https://host:port&region=name", append([]any{location}, args...)...)
	}
	u, err := url.Parse(location)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || u.Port() != "" {
		return bad("it names no bucket")
	}
	l := s3Location{bucket: u.Host, prefix: strings.Trim(u.Path, "/"), endpoint: "s3.amazonaws.com", secure: true}
	if l.prefix != "" {
		l.prefix += "/"
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return bad("%v", err)
	}
	for key, values := range query {
		switch {
		case len(values) != 1:
			return bad("%s is there twice", key)
		case key == "region":
			l.region = values[0]
		case key == "endpoint":
			e, err := url.Parse(values[0])
			if err != nil || e.Host == "" || e.Path != "" && e.Path != "/" || e.User != nil || e.RawQuery != "" {
				return bad("the endpoint %q is no https://host:port", values[0])
			}
			switch host := e.Hostname(); {
			case e.Scheme == "https":
			case e.Scheme == "http" && (host == "localhost" || host == "127.0.0.1" || host == "::1"):
				l.secure = false
			default:
				return bad("the endpoint %q is not https", values[0])
			}
			l.endpoint = e.Host
		default:
			return bad("it has no parameter %q", key)
		}
	}
	return l, nil
}
