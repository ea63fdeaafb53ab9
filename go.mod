module github.com/hotinit/hotinit

go 1.25.0

require (
	aead.dev/minisign v0.3.0
	github.com/hashicorp/go-reap v0.0.0-20170704170343-bf58d8a43e7b
	github.com/kelseyhightower/envconfig v1.4.0
	github.com/rogpeppe/go-internal v1.16.0
	golang.org/x/sys v0.43.0
)

require (
	golang.org/x/crypto v0.50.0 // indirect
	golang.org/x/tools v0.26.0 // indirect
)
