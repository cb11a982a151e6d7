// SPDX-License-Identifier: UNLICENSED
pragma solidity ^0.8.20;

/// A token that misbehaves on demand when we pay out.
contract PayoutToken {
    uint8 public immutable decimals;
    uint256 public totalSupply;
    mapping(address => uint256) public balanceOf;
    mapping(address => bool) public blocked;
    bool public paused;
    /// 0: returns nothing (USDT). 1: true. 2: false, and moves nothing. 3: true, and moves nothing.
    /// 4: takes one unit more from the sender.
    uint256 public manner;

    event Transfer(address indexed from, address indexed to, uint256 value);

    constructor(uint8 decimals_) {
        decimals = decimals_;
    }

    function mint(address to, uint256 value) external {
        totalSupply += value;
        balanceOf[to] += value;
        emit Transfer(address(0), to, value);
    }

    function set(uint256 manner_, bool paused_) external {
        manner = manner_;
        paused = paused_;
    }

    function block_(address who) external {
        blocked[who] = true;
    }

    function transfer(address to, uint256 value) external {
        require(!paused, "paused");
        require(!blocked[to] && !blocked[msg.sender], "blocked");
        uint256 how = manner;
        if (how != 2 && how != 3) {
            _move(msg.sender, to, value);
            if (how == 4) _move(msg.sender, address(1), 1);
        }
        if (how == 0) return;
        uint256 said = how == 2 ? 0 : 1;
        assembly {
            mstore(0, said)
            return(0, 32)
        }
    }

    function _move(address from, address to, uint256 value) private {
        require(balanceOf[from] >= value, "balance");
        balanceOf[from] -= value;
        balanceOf[to] += value;
        emit Transfer(from, to, value);
    }
}

/// Answers like a liquidity pool.
contract PoolLike {
    function token0() external view returns (address) {
        return address(this);
    }
}

/// A wallet that is a contract: takes coin, and burns gas doing so.
contract Wallet {
    uint256 public burns;
    uint256 private sink;

    constructor(uint256 burns_) {
        burns = burns_;
    }

    receive() external payable {
        for (uint256 i = 0; i < burns; i++) sink += i;
    }
}
