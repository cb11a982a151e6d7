// SPDX-License-Identifier: UNLICENSED
pragma solidity ^0.8.20;

/// What tokens do in the wild, one habit each.
abstract contract Odd {
    uint8 public immutable decimals;
    mapping(address => uint256) internal _balances;

    event Transfer(address indexed from, address indexed to, uint256 value);

    constructor(uint8 decimals_) {
        decimals = decimals_;
    }

    function balanceOf(address who) external view virtual returns (uint256) {
        return _balances[who];
    }

    function mint(address to, uint256 value) external virtual {
        _balances[to] += value;
        emit Transfer(address(0), to, value);
    }

    function _move(address from, address to, uint256 value) internal {
        require(_balances[from] >= value, "balance");
        _balances[from] -= value;
        _balances[to] += value;
        emit Transfer(from, to, value);
    }
}

/// Any number of decimals.
contract Plain is Odd {
    constructor(uint8 decimals_) Odd(decimals_) {}

    function transfer(address to, uint256 value) external returns (bool) {
        _move(msg.sender, to, value);
        return true;
    }
}

/// Returns nothing from `transfer`, like USDT.
contract NoReturn is Odd {
    constructor() Odd(6) {}

    function transfer(address to, uint256 value) external {
        _move(msg.sender, to, value);
    }
}

/// Announces the whole amount and keeps three percent of it.
contract FeeOnTransfer is Odd {
    constructor() Odd(18) {}

    function transfer(address to, uint256 value) external returns (bool) {
        require(_balances[msg.sender] >= value, "balance");
        _balances[msg.sender] -= value;
        _balances[to] += value - (value * 3) / 100;
        emit Transfer(msg.sender, to, value);
        return true;
    }
}

/// Everybody's balance changes at once, without a Transfer.
contract Rebasing is Odd {
    uint256 public index = 1e18;

    constructor() Odd(18) {}

    function balanceOf(address who) external view override returns (uint256) {
        return (_balances[who] * index) / 1e18;
    }

    function mint(address to, uint256 value) external override {
        _balances[to] += (value * 1e18) / index;
        emit Transfer(address(0), to, value);
    }

    function transfer(address to, uint256 value) external returns (bool) {
        uint256 shares = (value * 1e18) / index;
        require(_balances[msg.sender] >= shares, "balance");
        _balances[msg.sender] -= shares;
        _balances[to] += shares;
        emit Transfer(msg.sender, to, value);
        return true;
    }

    function rebase(uint256 index_) external {
        index = index_;
    }
}

/// Stops everything, its own `balanceOf` too.
contract Pausable is Odd {
    bool public paused;

    constructor() Odd(18) {}

    function pause(bool on) external {
        paused = on;
    }

    function balanceOf(address who) external view override returns (uint256) {
        require(!paused, "paused");
        return _balances[who];
    }

    function transfer(address to, uint256 value) external returns (bool) {
        require(!paused, "paused");
        _move(msg.sender, to, value);
        return true;
    }
}

/// Says Transfer and moves nothing.
contract Lying is Odd {
    constructor() Odd(18) {}

    function transfer(address to, uint256 value) external returns (bool) {
        emit Transfer(msg.sender, to, value);
        return true;
    }
}

interface Hooked {
    function onTransfer(address to, uint256 value) external;
}

/// Calls its sender in the middle of a transfer, and writes down what it knew before.
contract Reentered is Odd {
    constructor() Odd(18) {}

    function transfer(address to, uint256 value) external returns (bool) {
        uint256 balance = _balances[msg.sender];
        require(balance >= value, "balance");
        if (msg.sender.code.length > 0) {
            Hooked(msg.sender).onTransfer(to, value);
        }
        _balances[msg.sender] = balance - value;
        _balances[to] += value;
        emit Transfer(msg.sender, to, value);
        return true;
    }
}

/// Takes the chance once.
contract Reenterer is Hooked {
    bool private _again;

    function start(Reentered token, address to, uint256 value) external {
        _again = true;
        token.transfer(to, value);
    }

    function onTransfer(address to, uint256 value) external override {
        if (_again) {
            _again = false;
            Reentered(msg.sender).transfer(to, value);
        }
    }
}

/// Several calls in one transaction, from one sender.
contract Several {
    function call(address[] calldata targets, bytes[] calldata datas) external {
        for (uint256 i = 0; i < targets.length; i++) {
            (bool done, ) = targets[i].call(datas[i]);
            require(done, "a call failed");
        }
    }

    function pay(address payable to) external payable {
        (bool done, ) = to.call{value: msg.value}("");
        require(done, "not paid");
    }
}
