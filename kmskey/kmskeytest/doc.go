// Package kmskeytest holds every [kmskey.Provider] to the same promises, and helps to test what stands on one.
//
// [Run] is the conformance suite. A new provider passes it before anything else is said about it, and a new promise of the
// contract becomes a subtest here first. A [Harness] tells the suite how to make a provider and how to break the service
// behind it. What a provider cannot show is never left out in silence: the harness says why in NotApplicable, the reason
// appears in the test log, a missing reason fails the test, and so does a reason for something that works after all.
//
// [Counter] is a Provider around a Provider that counts calls, records how many were in flight, and lets a test delay or
// fail them. Tests that claim "one call per row" or "at most eight at once" prove it with a Counter.
//
// The suite proves behaviour at the seam. It cannot show that a service's cryptography is sound, that a key never leaves
// it, or that a provider clears its copies of a data key. It waits on signals only, never on time, and reaches whatever
// the harness's providers reach: a fake on the loopback, or a real service where someone has one.
package kmskeytest
