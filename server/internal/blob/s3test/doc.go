// Package s3test tries the store of blobs against a real S3-compatible server: Versity's gateway, with its objects in a folder. It is a module of
// its own, so that nobody else has to carry the gateway.
package s3test
