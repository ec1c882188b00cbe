// Package migrations reads what a release's Django migrations do, and judges whether an older release's code may run
// on the schema that they leave.
package migrations
