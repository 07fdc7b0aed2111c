// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC20Burnable} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Burnable.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";

/// @title FUNC
/// @notice ERC-20 with permit and burn. The whole supply is minted once; nothing mints later.
contract FuncToken is ERC20, ERC20Permit, ERC20Burnable {
    uint256 public constant INITIAL_SUPPLY = 1_000_000_000 ether;

    constructor(address treasury) ERC20("Function", "FUNC") ERC20Permit("Function") {
        _mint(treasury, INITIAL_SUPPLY);
    }
}
