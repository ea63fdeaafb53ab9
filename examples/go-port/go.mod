module example.com/go-port

go 1.25.0

require (
	github.com/hotinit/hotinit v0.0.0
	github.com/lestrrat/go-server-starter v0.0.0-20180220115249-6ac0b358431b
)

require golang.org/x/sys v0.43.0 // indirect

replace github.com/hotinit/hotinit => ../..
