package blob

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// S3 stores blobs in a bucket of an S3-compatible store, each as the object prefix/ab/abcdef…. It is safe for concurrent use. A blob is held
// in memory while it is put or got, so give bounds that fit.
type S3 struct {
	client   *minio.Client
	location s3Location
	retain   time.Duration
	clock    func() time.Time
}

// s3Retries is how often a request is sent at the most. Whoever asks goes on asking later.
const s3Retries = 3

func openS3(location string, o StoreOptions) (*S3, error) {
	l, err := parseS3(location)
	if err != nil {
		return nil, err
	}
	keys := credentials.NewEnvAWS()
	if o.Credentials != "" {
		info, err := os.Stat(o.Credentials)
		if err != nil {
			return nil, fmt.Errorf("blob store %q: credentials: %w", location, err)
		}
		if info.Mode().Perm()&0o077 != 0 {
			return nil, fmt.Errorf("blob store %q: others can read %s: chmod 600 it", location, o.Credentials)
		}
		keys = credentials.NewFileAWSCredentials(o.Credentials, "default")
	}
	if value, err := keys.GetWithContext(nil); err != nil || value.AccessKeyID == "" {
		from := "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
		if o.Credentials != "" {
			from = o.Credentials
		}
		return nil, fmt.Errorf("blob store %q: no credentials in %s", location, from)
	}
	transport, err := minio.DefaultTransport(l.secure)
	if err != nil {
		return nil, fmt.Errorf("blob store %q: %w", location, err)
	}
	transport.ResponseHeaderTimeout = 20 * time.Second
	client, err := minio.New(l.endpoint, &minio.Options{
		Creds: keys, Secure: l.secure, Region: l.region, Transport: transport, MaxRetries: s3Retries,
	})
	if err != nil {
		return nil, fmt.Errorf("blob store %q: %w", location, err)
	}
	return &S3{client: client, location: l, retain: o.Retain, clock: o.Clock}, nil
}

// Close releases nothing: connections end by themselves.
func (s *S3) Close() error { return nil }

func (s *S3) key(d Digest) string { return s.location.prefix + d.String()[:2] + "/" + d.String() }

// where names an object in errors.
func (s *S3) where(d Digest) string { return "s3://" + s.location.bucket + "/" + s.key(d) }

// Put stores what r yields, at most limit bytes, and returns its digest. An object that is there and has the right bytes is left alone.
func (s *S3) Put(ctx context.Context, r io.Reader, limit int64) (Digest, int64, error) {
	data, err := io.ReadAll(&contextReader{ctx, io.LimitReader(r, limit+1)})
	if err != nil {
		return Digest{}, 0, err
	}
	if int64(len(data)) > limit {
		return Digest{}, 0, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, limit)
	}
	d := Digest(sha256.Sum256(data))
	if _, err := s.client.StatObject(ctx, s.location.bucket, s.key(d), minio.StatObjectOptions{}); err == nil {
		if stored, err := s.Get(ctx, d, limit); err == nil && bytes.Equal(stored, data) {
			return d, int64(len(data)), nil
		}
	}
	options := minio.PutObjectOptions{ContentType: "application/octet-stream", DisableMultipart: true, SendContentMd5: true}
	if s.retain > 0 {
		options.Mode, options.RetainUntilDate = minio.Compliance, s.clock().Add(s.retain).UTC()
	}
	if _, err := s.client.PutObject(ctx, s.location.bucket, s.key(d), bytes.NewReader(data), int64(len(data)), options); err != nil {
		return Digest{}, 0, fmt.Errorf("put %s: %w", s.where(d), err)
	}
	return d, int64(len(data)), nil
}

// Get returns the bytes of a blob of at most limit bytes, checked against its digest.
func (s *S3) Get(ctx context.Context, d Digest, limit int64) ([]byte, error) {
	object, err := s.client.GetObject(ctx, s.location.bucket, s.key(d), minio.GetObjectOptions{})
	if err != nil {
		return nil, s.failed(d, err)
	}
	defer object.Close()
	b, err := io.ReadAll(io.LimitReader(object, limit+1))
	if err != nil {
		return nil, s.failed(d, err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%w: %s has more than %d bytes", ErrTooLarge, s.where(d), limit)
	}
	if sha256.Sum256(b) != d {
		return nil, fmt.Errorf("%w: the stored bytes of %s have another digest", ErrCorrupt, s.where(d))
	}
	return b, nil
}

// failed tells an object that is not there from a store that does not answer.
func (s *S3) failed(d Digest, err error) error {
	var reply minio.ErrorResponse
	if errors.As(err, &reply) && (reply.Code == minio.NoSuchKey || reply.StatusCode == http.StatusNotFound && reply.Code != minio.NoSuchBucket) {
		return fmt.Errorf("%w: %s", ErrNotFound, s.where(d))
	}
	return fmt.Errorf("get %s: %w", s.where(d), err)
}
