// Package faulty is a PKCS#11 module that fails as a test tells it to. It is a shared library in C, built by the test, which
// forwards every call to SoftHSM, or to another real module, unless a rule says otherwise. It is for tests only.
//
//	m := faulty.New(t)
//	token := keystoretest.Open(t, m.Config(t)) // or m.Path for whatever loads a module
//	m.Fail(faulty.Sign, 1, pkcs11.CKR_DEVICE_ERROR)
//
// # Rules
//
// A rule says what happens in some calls of one function, or of any: in the next n, in those after k more, for a while, or until it
// is healed ([Times]), each time or by chance ([Fault]). What happens can be any return value, before the work is done or after it, a
// delay, a call that hangs until it is released, the death of the process, or an answer that is not true: an attribute, a list of
// objects, a signature. Of several rules for one function the newest decides; delays add up.
//
// # The device
//
// Beside the rules the device itself changes: it drops sessions ([Module.DropSessions]) or the login ([Module.DropLogin]), it is lost and
// comes back ([Module.Lose], [Module.Restore]), with other content if the test wants that ([Module.Insert]), its slots and handles are
// numbered otherwise ([Module.MoveSlots], [Module.Number]), it allows fewer sessions ([Module.MaxSessions]) and warns of the PIN
// ([Module.Flags]). As in real devices a loss is healed for a process only when the token is back and the process has called
// C_Finalize and C_Initialize since.
//
// # Processes
//
// The rules reach every process that loads the library, at once, and count calls of all of them: "once" is once. A new process gets
// them as they are at that time. The library finds the test by a socket in its own folder, over which it gets a piece of shared memory;
// nothing has to be in the environment. Each Module has a SoftHSM of its own, so two of them in one process fail independently.
//
// # Misuse
//
// What would crash or lock a real device is not forwarded but recorded: two threads in one session, C_Finalize during another call, a
// call before C_Initialize, a login with a PIN that was refused before, and, where handles are numbered [Fresh] or [OtherKey], a handle
// from before the last C_Initialize. A test fails at its end if there is any of it that it did not take away ([Module.Violations]).
package faulty
