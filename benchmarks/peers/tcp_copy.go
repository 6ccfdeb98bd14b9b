// A TCP relay as Go programs write it: io.Copy both ways, which splices inside the kernel on Linux.
//
// usage: tcp_copy LISTEN_PORT UPSTREAM_PORT
package main

import (
	"io"
	"log"
	"net"
	"os"
)

func pump(dst, src *net.TCPConn, done chan<- struct{}) {
	if _, err := io.Copy(dst, src); err != nil {
		log.Print(err)
	}
	dst.CloseWrite()
	done <- struct{}{}
}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	for {
		client, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		upstream, err := net.Dial("tcp", "127.0.0.1:"+os.Args[2])
		if err != nil {
			log.Fatal(err)
		}
		go func() {
			done := make(chan struct{}, 2)
			go pump(upstream.(*net.TCPConn), client.(*net.TCPConn), done)
			go pump(client.(*net.TCPConn), upstream.(*net.TCPConn), done)
			<-done
			<-done
			client.Close()
			upstream.Close()
		}()
	}
}
