// Package isolate runs a [keystore.Token] in worker processes and is one itself: [Open] starts them, and [Serve] is
// what they do. So a vendor's PKCS#11 library that crashes or hangs costs the calls that are in it, not the service, and
// several processes sign side by side where the lock of one library is the limit. This package has no cgo in it;
// keystore/isolate/worker puts a PKCS#11 module behind it.
//
// # Processes
//
// A worker process is the same program, started with other arguments, so that both ends are of one build; they compare that before
// anything else. It has a process group of its own, no standard input and output, and no descriptor of its parent but the
// socket. Its standard error goes line by line into the log. It dumps no core, nobody can trace it, it can gain no
// privileges, and it dies with its parent: the kernel sees to that, and it ends by itself when the socket does. It asks for the
// PIN over the socket when it logs in; no argument and no variable holds it.
//
// A process that died is replaced, at once if it had been working and after an increasing time if it did not get that far. One
// whose calls do not return for [Config].Hang is killed. While no process is up, calls wait for a moment, as most are
// back after some tens of milliseconds; then they are refused at once with a [keystore.UnavailableError] that says when
// trying again makes sense.
//
// # One view of the keys
//
// Signatures go to the process that has the fewest calls. Everything that looks for objects or changes them goes through one lock and,
// while it can, to one process, since tokens do not like it otherwise: SoftHSM fails one generation in ten when another process
// searches meanwhile. A process signs the first time with a key under that lock, too, as it has to search for it. Before
// Destroy returns, each other process has dropped its handles and copies of the key, or is replaced: none signs with
// a key that another has destroyed. The epoch changes whenever any process, or what is in it, was set up anew.
//
// # What is tried again
//
// A process that dies takes the calls that are in it along. What was certainly not sent to it is asked of another. So are, once, Find
// and Sign: no signature reached us, so no one has it, and a second one over the same input says nothing that
// the first did not. It is no more than once, because the input itself may be what kills the library. Generate and Destroy
// are not repeated: they fail with ErrUnavailable, and Find tells what became of the key.
//
// A PIN is tried by one process at a time. Once it was refused no other tries it, so no number of processes locks a token. [Refusals]
// remember that beyond the closing of a token.
//
// # Protocol
//
// Both ends write frames to a stream socket, descriptor 3 of the worker. All integers are big-endian.
//
//	length   4 bytes   of what follows, at least 17, at most 1 MiB and 4 KiB
//	kind     1 byte
//	request  8 bytes   number of the request that this asks, cancels or answers
//	extra    8 bytes   in a request: nanoseconds that its caller has left, 0 if there is no limit;
//	                   in an answer: the epoch of the worker's token
//	body               as the kind says
//
// The worker begins with a hello: the protocol's name, its version, and the build. The supervisor answers with its own hello and
// the settings; the worker opens the token, and says that it is ready or why it failed. Requests may be sent while others are
// open, and are answered in any order. Signing has a fixed binary form; what is rare is JSON. Whoever gets a frame that cannot be
// ends the connection.
package isolate
