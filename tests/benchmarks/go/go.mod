module bufpool

go 1.21
