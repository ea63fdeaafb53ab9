// Package docs checks what the README and the pages of docs say: entry points are
// run as they stand there, links lead somewhere, and lines that hotinit is said to
// print are lines that it can print.
package docs
