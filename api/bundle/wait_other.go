//go:build !unix

package bundle

// withoutWaiting is nothing: what was opened is compared to what was listed, so that a link is found where the system cannot be told to follow none.
const withoutWaiting = 0
