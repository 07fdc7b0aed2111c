// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract SettlementSweep is Network {
    function test_sweep__sends_and_burns() public {
        _joinAll();
        uint64 batchId = _anchor(_receipt(1, 10 ether));
        _redeem(10 ether);
        skip(51);
        _release(batchId);
        (uint256 before, uint256 supply) = (token.balanceOf(address(this)), token.totalSupply());
        settlement.sweep();
        assertEq(token.balanceOf(address(this)) - before, 0.2 ether);
        assertEq(supply - token.totalSupply(), 0.1 ether);
        _assertLedgers();
        vm.expectRevert(ISettlement.NothingToRelease.selector);
        settlement.sweep();
    }
}
