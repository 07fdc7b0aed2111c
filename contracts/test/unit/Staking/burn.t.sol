// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract StakingBurn is Network {
    function test_burn__what_slashes_left__shrinks_the_supply() public {
        _stake(owner, 100 ether);
        vm.prank(address(disputes));
        staking.slash(owner, 50 ether, address(this), 4_000);
        uint256 supply = token.totalSupply();
        staking.burn();
        assertEq(supply - token.totalSupply(), 30 ether);
        _assertLedgers();
        vm.expectRevert(IStaking.ZeroAmount.selector);
        staking.burn();
    }
}
